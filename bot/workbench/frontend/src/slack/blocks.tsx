import { Fragment } from "react";
import type { Json } from "../api";
import { listOf } from "./body";
import { ActionRow, Button, FeedbackButtons } from "./elements";
import { PlainContext, PlainHeader, PlainSection, plainKind } from "./plain";
import { type Mentionable, Still } from "./still";

interface BlocksProps {
  blocks: Json[];
  users: Mentionable[];
  disabled: boolean;
  onPress: (element: Json) => Promise<void>;
}

/**
 * Block Kit as Slack draws it: `still` draws what is looked at, `plain` what is plain text, `elements` what is pressed.
 */
export function Blocks(props: BlocksProps) {
  return (
    <div className="slack-blocks">
      {runsOf(props.blocks).map((run, index) => (
        <Fragment key={index}>
          {run.kind === "still" ? <Still blocks={run.blocks} users={props.users} /> : <Single block={run.block} {...props} />}
        </Fragment>
      ))}
    </div>
  );
}

type Run = { kind: "still"; blocks: Json[] } | { kind: "single"; block: Json };

/** Neighbouring blocks for the renderer are drawn together, so that it spaces them. */
function runsOf(blocks: Json[]): Run[] {
  const runs: Run[] = [];
  for (const block of blocks) {
    const last = runs.at(-1);
    if (isPressable(block) || plainKind(block) !== null) runs.push({ kind: "single", block });
    else if (last?.kind === "still") last.blocks.push(block);
    else runs.push({ kind: "still", blocks: [block] });
  }
  return runs;
}

function isPressable(block: Json): boolean {
  if (block.type === "actions" || block.type === "context_actions") return true;
  if (block.type === "section") return (block.accessory as Json | undefined)?.type === "button";
  return block.type === "card" && listOf(block.actions).length > 0;
}

function Single({ block, users, disabled, onPress }: BlocksProps & { block: Json }) {
  const press = (element: Json) => onPress({ ...element, block_id: String(block.block_id ?? "") });
  switch (block.type) {
    case "actions":
      return <ActionRow elements={listOf(block.elements)} disabled={disabled} onPress={press} />;
    case "context_actions":
      return (
        <div className="slack-context-actions">
          {listOf(block.elements)
            .filter((element) => element.type === "feedback_buttons")
            .map((element, index) => (
              <FeedbackButtons key={index} element={element} disabled={disabled} onPress={press} />
            ))}
        </div>
      );
    case "card":
      return (
        <>
          <Still blocks={[{ ...block, actions: undefined }]} users={users} />
          <ActionRow elements={listOf(block.actions)} disabled={disabled} onPress={press} />
        </>
      );
    case "section":
      if (!isPressable(block)) return <PlainSection block={block} />;
      return (
        <div className="slack-section-with-button">
          <Blocks blocks={[{ ...block, accessory: undefined }]} users={users} disabled={disabled} onPress={onPress} />
          <Button element={block.accessory as Json} disabled={disabled} onPress={press} />
        </div>
      );
    case "header":
      return <PlainHeader block={block} />;
    default:
      return <PlainContext block={block} />;
  }
}
