import { type ReactNode, useId, useLayoutEffect, useRef } from "react";

interface DialogProps {
  title: string;
  testId: string;
  onCancel: () => void;
  children: ReactNode;
}

/** A modal window: the browser keeps the focus inside it and gives Escape to `onCancel`. */
export function Dialog({ title, testId, onCancel, children }: DialogProps) {
  const element = useRef<HTMLDialogElement>(null);
  const heading = useId();
  // Closed while it is still in the document: only then does the browser give the focus back.
  useLayoutEffect(() => {
    const dialog = element.current;
    dialog?.showModal();
    return () => dialog?.close();
  }, []);
  return (
    <dialog
      ref={element}
      className="dialog"
      aria-labelledby={heading}
      data-testid={testId}
      onCancel={(event) => {
        event.preventDefault();
        onCancel();
      }}
    >
      <div className="dialog-head">
        <h2 id={heading}>{title}</h2>
        <button type="button" aria-label="Close" className="dialog-close" onClick={onCancel}>
          ×
        </button>
      </div>
      {children}
    </dialog>
  );
}
