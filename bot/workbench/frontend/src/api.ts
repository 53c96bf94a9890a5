/** What the workbench's own API takes and gives; see bot/workbench/page.py. */

export type PlatformName = string;

export interface Person {
  id: string;
  name: string;
}

export interface Room {
  id: string;
  name: string;
  direct: boolean;
}

export interface Platform {
  name: PlatformName;
  /** A requester first, then an approver. */
  people: Person[];
  /** Named where somebody mentions it. */
  assistant: Person;
  /** Where each person can write, by person id. */
  rooms: Record<string, Room[]>;
}

export interface Message {
  id: string;
  room: string;
  thread: string | null;
  author: string;
  author_name: string;
  from_assistant: boolean;
  at: string;
  text: string;
  payload: Record<string, unknown>;
  only_for: string | null;
  edited: boolean;
}

export type Json = Record<string, unknown>;

export interface RoomView {
  messages: Message[];
  modal: Json | null;
}

export interface TraceEntry {
  id: number;
  at: string;
  request_id: string;
  stage: string;
  text: string;
  approval_id: string | null;
  execution_id: string | null;
}

/** A request that was not served; the message is a sentence for the person. */
export class ApiError extends Error {}

async function call<Answer>(path: string, init?: RequestInit): Promise<Answer> {
  let response: Response;
  try {
    response = await fetch(`/workbench/${path}`, init);
  } catch {
    throw new ApiError("Countersign is not answering.");
  }
  if (response.ok) return (await response.json()) as Answer;
  const kind = response.headers.get("content-type") ?? "";
  if (kind.includes("problem+json")) throw new ApiError(((await response.json()) as { detail: string }).detail);
  if (response.status === 403) throw new ApiError(await response.text());
  throw new ApiError(`Countersign could not take that (${response.status}).`);
}

function post<Answer>(path: string, body: Json): Promise<Answer> {
  return call<Answer>(path, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  });
}

export const api = {
  state: () => call<{ platforms: Platform[] }>("state"),
  messages: (platform: PlatformName, room: string, person: string) =>
    call<RoomView>(`messages?${new URLSearchParams({ platform, room, person })}`),
  trace: (after: number) => call<{ entries: TraceEntry[] }>(`trace?after=${after}`),
  say: (platform: PlatformName, person: string, room: string, text: string, thread: string | null) =>
    post<Json>("say", { platform, person, room, text, thread }),
  press: (platform: PlatformName, person: string, room: string, message: string, action: Json) =>
    post<{ notice: string | null }>("press", { platform, person, room, message, action }),
  modal: (platform: PlatformName, person: string, values: Record<string, string> | null) =>
    post<Json>("modal", { platform, person, values }),
};
