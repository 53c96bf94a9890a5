/** Sizes, colours and spacing of Adaptive Cards in Teams' light theme. */
const colour = (normal: string, subtle: string) => ({ default: normal, subtle });

const foreground = {
  default: colour("#242424", "#616161"),
  dark: colour("#242424", "#616161"),
  light: colour("#ffffff", "#f0f0f0"),
  accent: colour("#5b5fc7", "#7f85f5"),
  good: colour("#107c41", "#359b62"),
  warning: colour("#8a5a00", "#a5720b"),
  attention: colour("#c4314b", "#cc4a63"),
};

const container = (background: string) => ({ backgroundColor: background, foregroundColors: foreground });

export const hostConfig = {
  fontFamily: "inherit",
  supportsInteractivity: true,
  spacing: { small: 4, default: 8, medium: 12, large: 16, extraLarge: 24, padding: 16 },
  separator: { lineThickness: 1, lineColor: "#e0e0e0" },
  fontSizes: { small: 12, default: 14, medium: 16, large: 18, extraLarge: 22 },
  fontWeights: { lighter: 300, default: 400, bolder: 600 },
  containerStyles: {
    default: container("#ffffff"),
    emphasis: container("#f5f5f5"),
    accent: container("#e8ebfa"),
    good: container("#e7f2da"),
    attention: container("#fdf3f4"),
    warning: container("#fef7e6"),
  },
  actions: {
    maxActions: 6,
    spacing: "default",
    buttonSpacing: 8,
    actionsOrientation: "horizontal",
    actionAlignment: "left",
    showCard: { actionMode: "inline", inlineTopMargin: 12, style: "emphasis" },
  },
  factSet: {
    title: { weight: "bolder", size: "default", color: "default", isSubtle: false, wrap: true, maxWidth: 150 },
    value: { weight: "default", size: "default", color: "default", isSubtle: false, wrap: true },
    spacing: 12,
  },
  adaptiveCard: { allowCustomStyle: false },
};
