/** Stands for the carousel library: carousels are no part of Adaptive Cards 1.5, and this page draws none. */
export default class NoCarousel {
  constructor() {
    throw new Error("Carousels are not drawn here.");
  }
}

export const A11y = undefined;
export const Autoplay = undefined;
export const History = undefined;
export const Keyboard = undefined;
export const Navigation = undefined;
export const Pagination = undefined;
export const Scrollbar = undefined;
