import { useEffect, useRef } from "react";
import {
  type Action,
  AdaptiveCard,
  type ExecuteAction,
  HostConfig,
  type Input,
  OpenUrlAction,
  type SubmitAction,
} from "adaptivecards";
import MarkdownIt from "markdown-it";
import type { Json } from "../api";
import { listOf } from "../slack/body";
import { hostConfig } from "./host-config";

interface AdaptiveCardViewProps {
  card: Json;
  disabled: boolean;
  onPress: (action: Json) => Promise<void>;
}

/** Text of a card is markdown without HTML and without pictures; its links open away from this page. */
const markdown = new MarkdownIt({ html: false, linkify: false, breaks: true }).disable("image");
markdown.renderer.rules.link_open = (tokens, index, options, _env, self) => {
  tokens[index]?.attrSet("target", "_blank");
  tokens[index]?.attrSet("rel", "noopener noreferrer");
  return self.renderToken(tokens, index, options);
};
AdaptiveCard.onProcessMarkdown = (text, result) => {
  result.outputHtml = markdown.render(text);
  result.didProcess = true;
};

/** An Adaptive Card as Teams draws it; `Action.Execute` tells of the press with the inputs it takes along. */
export function AdaptiveCardView({ card, disabled, onPress }: AdaptiveCardViewProps) {
  const place = useRef<HTMLDivElement>(null);
  const press = useRef(onPress);
  press.current = onPress;
  const source = JSON.stringify(card);

  useEffect(() => {
    const element = place.current;
    if (!element) return;
    const adaptive = new AdaptiveCard();
    adaptive.hostConfig = new HostConfig(hostConfig);
    adaptive.onExecuteAction = (action) => {
      if (action instanceof OpenUrlAction) openLink(action.url);
      else if (isSending(action)) void send(action);
    };
    const send = async (action: ExecuteAction | SubmitAction) => {
      element.setAttribute("aria-busy", "true");
      await press.current(pressOf(action));
      element.removeAttribute("aria-busy");
    };
    adaptive.parse(withMentions(JSON.parse(source) as Json));
    element.replaceChildren(...[adaptive.render()].filter((node) => node !== undefined));
    return () => element.replaceChildren();
  }, [source]);

  return <div ref={place} className="adaptive-card" data-testid="adaptive-card" inert={disabled} />;
}

/** Teams shows a text block that is one of the card's mention tokens as that person's name. */
function withMentions(card: Json): Json {
  const entities = listOf((card.msteams as Json | undefined)?.entities);
  const names = new Map(entities.map((entity) => [entity.text, (entity.mentioned as Json | undefined)?.name]));
  const replaced = (value: unknown): unknown => {
    if (Array.isArray(value)) return value.map(replaced);
    if (typeof value !== "object" || value === null) return value;
    const element = value as Json;
    if (element.type === "TextBlock" && names.has(element.text)) {
      const run = { type: "TextRun", text: String(names.get(element.text)), color: "Accent", weight: "Bolder" };
      return { type: "RichTextBlock", inlines: [run] };
    }
    return Object.fromEntries(Object.entries(element).map(([key, inner]) => [key, replaced(inner)]));
  };
  return names.size === 0 ? card : (replaced(card) as Json);
}

function isSending(action: Action): action is ExecuteAction | SubmitAction {
  const type = action.getJsonTypeName();
  return type === "Action.Execute" || type === "Action.Submit";
}

/** The press as the platform takes it: the card's own data apart from what the person typed. */
function pressOf(action: ExecuteAction | SubmitAction): Json {
  const { data, verb } = action.toJSON() as { data?: Json; verb?: string };
  const inputs: Record<string, string> = {};
  for (const input of Object.values(action.getReferencedInputs() as Record<string, Input>)) {
    if (input.id && input.isSet()) inputs[input.id] = String(input.value);
  }
  return { verb: verb ?? "", data: data ?? {}, inputs };
}

function openLink(url: string | undefined) {
  if (url && /^https?:\/\//i.test(url)) window.open(url, "_blank", "noopener,noreferrer");
}
