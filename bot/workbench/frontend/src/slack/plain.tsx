import type { Json } from "../api";
import { listOf } from "./body";
import { textOf } from "./elements";
import { WithSigns } from "./signs";

/**
 * Blocks of plain text. They are drawn here because the renderer reads plain text as Slack's markup, which Slack does
 * not: in a header, `*` is a star and `<@U1>` five characters.
 */
export function plainKind(block: Json): "header" | "context" | "section" | null {
  if (block.type === "header") return "header";
  if (block.type === "context") return listOf(block.elements).every(isPlain) ? "context" : null;
  const bare = !block.fields && !block.accessory;
  return block.type === "section" && bare && isPlain(block.text as Json | undefined) ? "section" : null;
}

function isPlain(text: Json | undefined): boolean {
  return text?.type === "plain_text";
}

export function PlainHeader({ block }: { block: Json }) {
  return (
    <h3 className="slack-header" data-testid="card-title">
      <WithSigns text={textOf(block.text)} />
    </h3>
  );
}

export function PlainContext({ block }: { block: Json }) {
  return (
    <div className="slack-context">
      {listOf(block.elements).map((element, index) => (
        <span key={index}>{textOf(element)}</span>
      ))}
    </div>
  );
}

export function PlainSection({ block }: { block: Json }) {
  return <p className="slack-plain">{textOf(block.text)}</p>;
}
