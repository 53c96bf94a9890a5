import type { ReactNode } from "react";
import { type Block, Message as RenderedBlocks } from "slack-blocks-to-jsx";
import type { Json } from "../api";
import { decoded } from "./elements";

export interface Mentionable {
  id: string;
  name: string;
}

/** Blocks with nothing to press, drawn by the renderer. */
export function Still({ blocks, users }: { blocks: Json[]; users: Mentionable[] }) {
  return (
    <RenderedBlocks
      blocks={blocks.map((block) => decodedRichText(block) as unknown as Block)}
      name=""
      logo=""
      theme="light"
      withoutWrapper
      data={{ users: users.map((user) => ({ ...user, avatar: "" })) }}
      hooks={{
        user: (user) => <span className="slack-mention">@{user.name || user.id}</span>,
        link: ({ href, children }) => <SafeLink href={href}>{children}</SafeLink>,
      }}
    />
  );
}

/** Rich text with Slack's three escapes undone, which the renderer leaves as they are. */
function decodedRichText(value: Json): Json {
  if (value.type === "text" || value.type === "link") {
    return typeof value.text === "string" ? { ...value, text: decoded(value.text) } : value;
  }
  if (!String(value.type).startsWith("rich_text") || !Array.isArray(value.elements)) return value;
  return { ...value, elements: (value.elements as Json[]).map(decodedRichText) };
}

/** Only web links are links; anything else stays text. */
function SafeLink({ href, children }: { href: string; children: ReactNode }) {
  if (!/^https?:\/\//i.test(href)) return <>{children}</>;
  return (
    <a href={href} target="_blank" rel="noopener noreferrer">
      {children}
    </a>
  );
}
