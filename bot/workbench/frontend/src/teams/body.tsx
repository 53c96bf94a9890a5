import type { Json, Message, Person } from "../api";
import { listOf } from "../slack/body";
import { AdaptiveCardView } from "./card";
import { TeamsText } from "./text";

interface TeamsBodyProps {
  message: Message;
  people: Person[];
  messages: Message[];
  disabled: boolean;
  onPress: (action: Json) => Promise<void>;
}

const ADAPTIVE_CARD = "application/vnd.microsoft.card.adaptive";

/** A Teams message: its text, its Adaptive Cards, and what Teams adds for generated answers. */
export function TeamsBody({ message, disabled, onPress }: TeamsBodyProps) {
  const cards = listOf(message.payload.attachments).filter((one) => one.contentType === ADAPTIVE_CARD);
  const about = listOf(message.payload.entities).find((entity) => entity.type === "https://schema.org/Message");
  const citations = listOf(about?.citation);
  return (
    <>
      {message.text !== "" && <TeamsText text={message.text} formatted={message.from_assistant} />}
      {cards.map((card, index) => (
        <AdaptiveCardView key={index} card={card.content as Json} disabled={disabled} onPress={onPress} />
      ))}
      {citations.length > 0 && <Citations citations={citations} />}
      {about && isGenerated(about) && <span className="ai-label">AI generated</span>}
    </>
  );
}

function isGenerated(about: Json): boolean {
  const kinds: unknown = about.additionalType;
  return Array.isArray(kinds) && kinds.includes("AIGeneratedContent");
}

function Citations({ citations }: { citations: Json[] }) {
  return (
    <ol className="citations" aria-label="Sources">
      {citations.map((citation, index) => {
        const appearance = (citation.appearance ?? {}) as Json;
        const name = String(appearance.name ?? "");
        const url = String(appearance.url ?? "");
        return (
          <li key={index} value={Number(citation.position ?? index + 1)}>
            {/^https?:\/\//i.test(url) ? (
              <a href={url} target="_blank" rel="noopener noreferrer">
                {name}
              </a>
            ) : (
              name
            )}
          </li>
        );
      })}
    </ol>
  );
}
