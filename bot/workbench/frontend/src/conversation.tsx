import { type ReactNode, useEffect, useLayoutEffect, useMemo, useRef } from "react";
import type { Message } from "./api";
import { Avatar } from "./avatar";

/** How a room looks: Slack's flat list, Teams' channel posts, or Teams' one-to-one bubbles. */
export type Look = "slack" | "posts" | "chat";

interface ConversationProps {
  messages: Message[];
  loaded: boolean;
  me: string;
  look: Look;
  replyTo: string | null;
  onReply: (message: Message) => void;
  renderBody: (message: Message) => ReactNode;
}

/** Within this many pixels of the end, the list follows what is new. */
const NEAR_THE_END = 120;

/** A room's messages, replies under what they answer, following the newest unless the person scrolled away. */
export function Conversation(props: ConversationProps) {
  const { messages, look } = props;
  const threads = useMemo(() => threadsOf(messages), [messages]);
  const list = useRef<HTMLDivElement>(null);
  const follows = useRef(true);

  useLayoutEffect(() => {
    const element = list.current;
    if (element && follows.current) element.scrollTop = element.scrollHeight;
  }, [messages]);
  useEffect(() => {
    // Cards grow (a show-card opens) and the room shrinks (a notice appears) without a change of the messages.
    const element = list.current;
    if (!element) return;
    const observer = new ResizeObserver(() => {
      if (follows.current) element.scrollTop = element.scrollHeight;
    });
    for (const sized of [element, ...element.children]) observer.observe(sized);
    return () => observer.disconnect();
  }, []);

  return (
    <div
      ref={list}
      className={`conversation look-${look}`}
      data-testid="conversation"
      tabIndex={0}
      role="log"
      aria-live="polite"
      aria-label="Messages"
      onScroll={(event) => {
        const { scrollHeight, scrollTop, clientHeight } = event.currentTarget;
        follows.current = scrollHeight - scrollTop - clientHeight < NEAR_THE_END;
      }}
    >
      <div className="conversation-flow">
        {props.loaded && messages.length === 0 && (
          <p className="empty">Nothing has been said here yet. Try one of the suggestions below.</p>
        )}
        {threads.map((thread) => (
          <Thread key={thread.root.id} thread={thread} {...props} />
        ))}
      </div>
    </div>
  );
}

interface ThreadOfMessages {
  root: Message;
  replies: Message[];
}

/** Groups messages under the ones they answer; an answer to something this person cannot see stands by itself. */
function threadsOf(messages: Message[]): ThreadOfMessages[] {
  const roots = new Map<string, ThreadOfMessages>();
  for (const message of messages) {
    const above = message.thread === null ? undefined : roots.get(message.thread);
    if (above && message.thread !== message.id) above.replies.push(message);
    else roots.set(message.id, { root: message, replies: [] });
  }
  return [...roots.values()];
}

function Thread({ thread, ...props }: { thread: ThreadOfMessages } & ConversationProps) {
  const { root, replies } = thread;
  const canReply = root.only_for === null && props.look !== "chat";
  const chosen = props.replyTo === root.id;
  return (
    <div className={chosen ? "thread thread-chosen" : "thread"} data-testid="thread">
      <MessageRow message={root} {...props} />
      {replies.length > 0 && (
        <div className="replies" role="group" aria-label={`Replies to ${root.author_name}`}>
          {props.look === "slack" && (
            <p className="replies-count">
              {replies.length} {replies.length === 1 ? "reply" : "replies"}
            </p>
          )}
          {replies.map((reply) => (
            <MessageRow key={reply.id} message={reply} {...props} />
          ))}
        </div>
      )}
      {canReply && (
        <button
          type="button"
          className="reply"
          data-testid="reply"
          aria-label={`Reply in thread to ${root.author_name}`}
          onClick={() => props.onReply(root)}
        >
          {props.look === "slack" ? "Reply in thread" : "Reply"}
        </button>
      )}
    </div>
  );
}

function MessageRow({ message, me, look, renderBody }: { message: Message } & ConversationProps) {
  const mine = message.author === me;
  const classes = ["message", mine && "message-mine", message.only_for !== null && "message-private"];
  return (
    <article
      className={classes.filter(Boolean).join(" ")}
      data-testid="message"
      data-message={message.id}
      data-from={message.from_assistant ? "assistant" : "person"}
      data-private={message.only_for !== null}
    >
      {!(look === "chat" && mine) && <Avatar name={message.author_name} app={message.from_assistant} />}
      <div className="message-main">
        {message.only_for !== null && (
          <p className="private-note">
            <EyeIcon /> Only visible to you
          </p>
        )}
        <header>
          <b className="author">{message.author_name}</b>
          {message.from_assistant && <span className="app-badge">App</span>}
          <MessageTime at={message.at} />
        </header>
        <div className="body">{renderBody(message)}</div>
        {message.edited && <span className="edited">{look === "slack" ? "(edited)" : "Edited"}</span>}
      </div>
    </article>
  );
}

function MessageTime({ at }: { at: string }) {
  const moment = new Date(at);
  return (
    <time dateTime={at} title={moment.toLocaleString()}>
      {moment.toLocaleTimeString([], { hour: "numeric", minute: "2-digit" })}
    </time>
  );
}

function EyeIcon() {
  return (
    <svg viewBox="0 0 20 20" width="14" height="14" aria-hidden="true">
      <path
        d="M1.5 10S4.5 4.5 10 4.5 18.5 10 18.5 10 15.5 15.5 10 15.5 1.5 10 1.5 10z"
        fill="none"
        stroke="currentColor"
        strokeWidth="1.5"
      />
      <circle cx="10" cy="10" r="2.5" fill="currentColor" />
    </svg>
  );
}
