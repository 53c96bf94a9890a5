import { useState } from "react";
import type { Json } from "../api";
import { Dialog } from "../dialog";

interface PressableProps {
  element: Json;
  disabled: boolean;
  onPress: (element: Json) => Promise<void>;
}

export function ActionRow(props: { elements: Json[]; disabled: boolean; onPress: (element: Json) => Promise<void> }) {
  return (
    <div className="slack-actions">
      {props.elements.map((element, index) => (
        <Button key={String(element.action_id ?? index)} {...props} element={element} />
      ))}
    </div>
  );
}

/** A Block Kit button: asks first where it has a `confirm`, opens its `url` where it has one, then tells of the press. */
export function Button({ element, disabled, onPress }: PressableProps) {
  const [asking, setAsking] = useState(false);
  const [busy, setBusy] = useState(false);
  const confirm = element.confirm as Json | undefined;
  const url = String(element.url ?? "");

  const press = async () => {
    setAsking(false);
    setBusy(true);
    if (/^https?:\/\//i.test(url)) window.open(url, "_blank", "noopener,noreferrer");
    const { confirm: _question, ...pressed } = element;
    await onPress(pressed);
    setBusy(false);
  };

  const style = String(element.style ?? "default");
  return (
    <>
      <button
        type="button"
        className={`slack-button slack-button-${style}`}
        disabled={disabled}
        aria-disabled={busy}
        data-testid="card-button"
        data-action={String(element.action_id ?? "")}
        data-confirm={confirm !== undefined}
        aria-label={element.accessibility_label ? String(element.accessibility_label) : undefined}
        aria-busy={busy}
        onClick={() => {
          // Not disabled while busy: a disabled button loses the focus, and a dialog could not give it back.
          if (busy) return;
          if (confirm) setAsking(true);
          else void press();
        }}
      >
        {textOf(element.text)}
      </button>
      {asking && confirm && (
        <Dialog title={textOf(confirm.title)} testId="confirm" onCancel={() => setAsking(false)}>
          <p className="dialog-text">{textOf(confirm.text)}</p>
          <div className="dialog-buttons">
            <button type="button" className="slack-button" data-testid="confirm-no" onClick={() => setAsking(false)}>
              {textOf(confirm.deny) || "Cancel"}
            </button>
            <button
              type="button"
              className={`slack-button slack-button-${confirm.style === "danger" ? "danger" : "primary"}`}
              data-testid="confirm-yes"
              onClick={() => void press()}
            >
              {textOf(confirm.confirm) || "Yes"}
            </button>
          </div>
        </Dialog>
      )}
    </>
  );
}

/** Thumbs up and down under an answer. */
export function FeedbackButtons({ element, disabled, onPress }: PressableProps) {
  const [chosen, setChosen] = useState<string | null>(null);
  const thumb = (key: "positive_button" | "negative_button", picture: string) => {
    const button = element[key] as Json | undefined;
    if (!button) return null;
    return (
      <button
        type="button"
        className="slack-thumb"
        disabled={disabled}
        aria-pressed={chosen === key}
        aria-label={String(button.accessibility_label ?? textOf(button.text))}
        title={textOf(button.text)}
        data-testid={key === "positive_button" ? "feedback-positive" : "feedback-negative"}
        onClick={() => {
          setChosen(key);
          void onPress({ type: "feedback_buttons", action_id: element.action_id, value: button.value });
        }}
      >
        <svg viewBox="0 0 20 20" width="16" height="16" aria-hidden="true">
          <path d={picture} fill="none" stroke="currentColor" strokeWidth="1.5" strokeLinejoin="round" />
        </svg>
      </button>
    );
  };
  return (
    <>
      {thumb("positive_button", "M3 9h3v8H3zM6 9l4-6.5c1.5 0 2 1.2 1.7 2.5L11 8h5.2c1 0 1.6.9 1.4 1.8l-1.4 6c-.2.7-.8 1.2-1.5 1.2H6")}
      {thumb("negative_button", "M3 11h3V3H3zM6 11l4 6.5c1.5 0 2-1.2 1.7-2.5L11 12h5.2c1 0 1.6-.9 1.4-1.8l-1.4-6C16 3.5 15.4 3 14.7 3H6")}
    </>
  );
}

/** The words of a text object. */
export function textOf(text: unknown): string {
  if (typeof text === "string") return decoded(text);
  return decoded(String((text as Json | undefined)?.text ?? ""));
}

const ESCAPES: Record<string, string> = { "&lt;": "<", "&gt;": ">", "&amp;": "&" };

/** Slack's three escapes undone, each once. */
export function decoded(text: string): string {
  return text.replace(/&(?:lt|gt|amp);/g, (escape) => ESCAPES[escape] ?? escape);
}
