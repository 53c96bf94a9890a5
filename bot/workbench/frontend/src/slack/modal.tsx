import { useState } from "react";
import { ApiError, type Json } from "../api";
import { Dialog } from "../dialog";
import { Blocks } from "./blocks";
import { listOf } from "./body";
import { textOf } from "./elements";
import type { Mentionable } from "./still";

interface SlackModalProps {
  view: Json;
  users: Mentionable[];
  onPress: (element: Json) => Promise<void>;
  /** Values by block id, or null to close. */
  onSubmit: (values: Record<string, string> | null) => Promise<void>;
}

/** A Slack modal view: its blocks, its input blocks as a form, Submit and Cancel. */
export function SlackModal({ view, users, onPress, onSubmit }: SlackModalProps) {
  const blocks = listOf(view.blocks);
  const [values, setValues] = useState<Record<string, string>>(() => initialValues(blocks));
  const [busy, setBusy] = useState(false);
  const [failure, setFailure] = useState("");

  const send = async (sent: Record<string, string> | null) => {
    setBusy(true);
    setFailure("");
    try {
      await onSubmit(sent);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      setFailure(error.message);
    } finally {
      setBusy(false);
    }
  };

  return (
    <Dialog title={textOf(view.title)} testId="modal" onCancel={() => void send(null)}>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          void send(values);
        }}
      >
        <div className="modal-blocks">
          {blocks.map((block, index) =>
            block.type === "input" ? (
              <InputBlock
                key={String(block.block_id ?? index)}
                block={block}
                value={values[String(block.block_id)] ?? ""}
                onChange={(value) => setValues((known) => ({ ...known, [String(block.block_id)]: value }))}
              />
            ) : (
              <Blocks key={index} blocks={[block]} users={users} disabled={busy} onPress={onPress} />
            ),
          )}
        </div>
        {failure !== "" && (
          <p className="failure" role="alert" data-testid="modal-failure">
            {failure}
          </p>
        )}
        <div className="dialog-buttons">
          <button type="button" className="slack-button" data-testid="modal-cancel" onClick={() => void send(null)}>
            {textOf(view.close) || (view.submit ? "Cancel" : "Close")}
          </button>
          {view.submit !== undefined && view.submit !== null && (
            <button
              type="submit"
              className="slack-button slack-button-primary"
              data-testid="modal-submit"
              disabled={busy}
              aria-busy={busy}
            >
              {textOf(view.submit)}
            </button>
          )}
        </div>
      </form>
    </Dialog>
  );
}

function initialValues(blocks: Json[]): Record<string, string> {
  const values: Record<string, string> = {};
  for (const block of blocks) {
    if (block.type !== "input") continue;
    const element = block.element as Json;
    const option = element.initial_option as Json | undefined;
    values[String(block.block_id)] = String(element.initial_value ?? option?.value ?? "");
  }
  return values;
}

function InputBlock(props: { block: Json; value: string; onChange: (value: string) => void }) {
  const { block, value, onChange } = props;
  const element = block.element as Json;
  const optional = block.optional === true;
  const common = {
    value,
    required: !optional,
    "data-testid": `input-${String(block.block_id)}`,
    onChange: (event: { target: { value: string } }) => onChange(event.target.value),
  };
  const typed = {
    ...common,
    placeholder: textOf(element.placeholder),
    maxLength: typeof element.max_length === "number" ? element.max_length : 3000,
    minLength: typeof element.min_length === "number" ? element.min_length : undefined,
  };
  return (
    <label className="modal-input">
      <span className="modal-label">
        {textOf(block.label)}
        {optional && <span className="modal-optional"> (optional)</span>}
      </span>
      {element.type === "static_select" || element.type === "radio_buttons" ? (
        <select {...common}>
          <option value="">{textOf(element.placeholder) || "Choose…"}</option>
          {listOf(element.options).map((option) => (
            <option key={String(option.value)} value={String(option.value)}>
              {textOf(option.text)}
            </option>
          ))}
        </select>
      ) : element.multiline === true ? (
        <textarea rows={4} {...typed} />
      ) : (
        <input type="text" {...typed} />
      )}
      {block.hint !== undefined && <span className="modal-hint">{textOf(block.hint)}</span>}
    </label>
  );
}
