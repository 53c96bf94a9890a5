import { useMemo } from "react";
import type { Json, Message, Person } from "../api";
import { Blocks } from "./blocks";
import type { Mentionable } from "./still";

interface SlackBodyProps {
  message: Message;
  people: Person[];
  messages: Message[];
  disabled: boolean;
  onPress: (element: Json) => Promise<void>;
}

/** A Slack message: its blocks where it has some (with coloured attachments), its text otherwise, as in Slack. */
export function SlackBody({ message, people, messages, disabled, onPress }: SlackBodyProps) {
  const users = useMemo(() => mentionable(people, messages), [people, messages]);
  const blocks = listOf(message.payload.blocks);
  const attachments = listOf(message.payload.attachments).filter((one) => listOf(one.blocks).length > 0);
  const shown = blocks.length > 0 || (attachments.length > 0 && message.text === "") ? blocks : textBlock(message.text);
  const draw = (list: Json[]) => <Blocks blocks={list} users={users} disabled={disabled} onPress={onPress} />;
  return (
    <>
      {shown.length > 0 && draw(shown)}
      {attachments.map((attachment, index) => (
        <div key={index} className="slack-attachment" style={{ borderLeftColor: colourOf(attachment.color) }}>
          {draw(listOf(attachment.blocks))}
        </div>
      ))}
    </>
  );
}

/** Message text as rich text: mentions and links are what stands in angle brackets, all else is characters. */
function textBlock(text: string): Json[] {
  if (text.trim() === "") return [];
  const elements = text
    .split(/<([^<>]+)>/)
    .map((piece, index) => (index % 2 === 0 ? { type: "text", text: piece } : bracketed(piece)))
    .filter((element) => element.text !== "");
  return [{ type: "rich_text", elements: [{ type: "rich_text_section", elements }] }];
}

function bracketed(inner: string): Json {
  const [target = "", label] = inner.split("|");
  if (/^@[UW]/.test(target)) return { type: "user", user_id: target.slice(1) };
  if (/^https?:/i.test(target)) return { type: "link", url: target, text: label ?? target };
  return { type: "text", text: label ?? target };
}

/** Names for mentions: everyone in the workspace and everyone who has written, the assistant among them. */
function mentionable(people: Person[], messages: Message[]): Mentionable[] {
  const names = new Map(people.map((person) => [person.id, person.name]));
  for (const message of messages) names.set(message.author, message.author_name);
  return [...names].map(([id, name]) => ({ id, name }));
}

function colourOf(colour: unknown): string {
  const named: Record<string, string> = { good: "#2eb67d", warning: "#ecb22e", danger: "#e01e5a" };
  const text = String(colour ?? "");
  return named[text] ?? (/^#?[0-9a-f]{6}$/i.test(text) ? `#${text.replace("#", "")}` : "#ddd");
}

export function listOf(value: unknown): Json[] {
  return Array.isArray(value) ? (value as Json[]) : [];
}
