import { useEffect, useRef, useState } from "react";
import { ApiError, type Message, type Room } from "./api";

interface ComposerProps {
  platform: string;
  person: string;
  room: Room | null;
  replyTo: Message | null;
  /** Where "this thread" points when none was chosen. */
  thread: Message | null;
  disabled: boolean;
  onReplyTo: (message: Message | null) => void;
  onSay: (text: string) => Promise<void>;
}

interface Hint {
  label: string;
  text: string;
  inThread?: boolean;
}

/** Where a person writes; Enter sends, Shift+Enter breaks the line, a suggestion fills the box. */
export function Composer(props: ComposerProps) {
  const { room, replyTo } = props;
  const [text, setText] = useState("");
  const [busy, setBusy] = useState(false);
  const [failure, setFailure] = useState("");
  const box = useRef<HTMLTextAreaElement>(null);

  useEffect(() => {
    if (replyTo) box.current?.focus();
  }, [replyTo]);
  useEffect(() => {
    const element = box.current;
    if (!element) return;
    element.style.height = "auto";
    element.style.height = `${Math.min(element.scrollHeight, 160)}px`;
  }, [text]);

  const send = async () => {
    const words = text.trim();
    if (words === "" || busy || props.disabled) return;
    setBusy(true);
    setFailure("");
    try {
      await props.onSay(words);
      setText("");
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      setFailure(error.message);
    } finally {
      setBusy(false);
      box.current?.focus();
    }
  };

  const fill = (hint: Hint) => {
    if (hint.inThread && replyTo === null && props.thread) props.onReplyTo(props.thread);
    setText(hint.text);
    box.current?.focus();
  };

  const where = room === null ? "" : room.direct ? "Countersign" : (props.platform === "slack" ? "#" : "") + room.name.replace(/^#/, "");
  return (
    <div className="composer-place">
      <div className="hints" role="group" aria-label="Suggestions">
        {hintsFor(props.platform, room, replyTo !== null || props.thread !== null).map((hint) => (
          <button key={hint.label} type="button" disabled={props.disabled} onClick={() => fill(hint)}>
            {hint.label}
          </button>
        ))}
      </div>
      {failure !== "" && (
        <p className="failure" role="alert" data-testid="composer-failure">
          {failure}
        </p>
      )}
      <form
        className="composer"
        onSubmit={(event) => {
          event.preventDefault();
          void send();
        }}
      >
        {replyTo && (
          <div className="replying" data-testid="replying">
            <span>
              Replying in thread to <b>{replyTo.author_name}</b>
            </span>
            <button type="button" aria-label="Leave the thread" onClick={() => props.onReplyTo(null)}>
              ×
            </button>
          </div>
        )}
        <textarea
          ref={box}
          rows={1}
          value={text}
          maxLength={4000}
          disabled={props.disabled}
          data-testid="composer"
          aria-label={`Message ${where} as ${props.person}`}
          placeholder={replyTo ? "Reply…" : `Message ${where} as ${props.person}`}
          onChange={(event) => setText(event.target.value)}
          onKeyDown={(event) => {
            if (event.key === "Escape" && replyTo) props.onReplyTo(null);
            if (event.key !== "Enter" || event.shiftKey || event.nativeEvent.isComposing) return;
            event.preventDefault();
            void send();
          }}
        />
        <button
          type="submit"
          className="send"
          data-testid="send"
          aria-label="Send"
          disabled={props.disabled || busy || text.trim() === ""}
        >
          <svg viewBox="0 0 20 20" width="16" height="16" aria-hidden="true">
            <path d="M2.5 3.2 18 10 2.5 16.8 4.6 11 11 10 4.6 9z" fill="currentColor" />
          </svg>
        </button>
      </form>
    </div>
  );
}

/** Suggestions that make sense here: commands are Slack's, a mention is for rooms with other people. */
function hintsFor(platform: string, room: Room | null, hasThread: boolean): Hint[] {
  const mention = room?.direct ? "" : "@Countersign ";
  const help = platform === "slack" ? "/countersign help" : `${mention}help`;
  const hints: Hint[] = [
    { label: help, text: help },
    { label: `${mention}close TCK-1`, text: `${mention}close TCK-1` },
    { label: `${mention}create a ticket: …`, text: `${mention}create a ticket: ` },
  ];
  // Teams has no threads one to one.
  if (hasThread && (platform === "slack" || !room?.direct)) {
    hints.push({ label: "summarise this thread", text: `${mention}summarise this thread`, inThread: true });
  }
  return hints;
}
