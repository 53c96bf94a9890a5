import { useEffect, useMemo, useRef, useState } from "react";
import { api, ApiError, type Json, type Message, type Platform, type Room } from "./api";
import { titleOf, type Ticks } from "./app";
import { Avatar } from "./avatar";
import { Composer } from "./composer";
import { Conversation } from "./conversation";
import { SlackModal } from "./slack/modal";
import { SlackBody } from "./slack/body";
import { TeamsBody } from "./teams/body";
import { useRoom } from "./use-room";

const ROLES = ["requester", "approver"];

interface Notice {
  text: string;
  refused: boolean;
}

interface PaneProps {
  platform: Platform;
  ticks: Ticks;
  shown: boolean;
  away: boolean;
}

/** One platform as one person sees it: who I am, where I am, what is said, and where I write. */
export function Pane({ platform, ticks, shown, away }: PaneProps) {
  const [personId, setPersonId] = useState(platform.people[0]?.id ?? "");
  const [roomByPerson, setRoomByPerson] = useState<Record<string, string>>({});
  const [replyTo, setReplyTo] = useState<Message | null>(null);
  const [notice, setNotice] = useState<Notice | null>(null);

  const known = useMemo(() => [...platform.people, platform.assistant], [platform]);
  const person = platform.people.find((someone) => someone.id === personId);
  const rooms = platform.rooms[personId] ?? [];
  const room = rooms.find((one) => one.id === roomByPerson[personId]) ?? rooms[0] ?? null;
  const roomTick = room ? (ticks.rooms[`${platform.name}/${room.id}`] ?? 0) : 0;
  const version = `${ticks.epoch}.${roomTick}.${ticks.modals[platform.name] ?? 0}.${shown}`;
  const { view, loaded, reread } = useRoom(platform.name, shown && room ? room.id : null, personId, version);
  const unread = useUnread(platform, ticks, shown ? (room?.id ?? null) : null);

  useEffect(() => {
    if (notice === null || notice.refused) return;
    const timer = window.setTimeout(() => setNotice(null), 6_000);
    return () => window.clearTimeout(timer);
  }, [notice]);

  const moveTo = (nextPerson: string, nextRoom: string | null) => {
    setPersonId(nextPerson);
    if (nextRoom !== null) setRoomByPerson({ ...roomByPerson, [nextPerson]: nextRoom });
    setReplyTo(null);
    setNotice(null);
  };

  const press = async (carrier: string, action: Json) => {
    if (room === null) return;
    setNotice(null);
    try {
      const answer = await api.press(platform.name, personId, room.id, carrier, action);
      if (answer.notice) setNotice({ text: answer.notice, refused: false });
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      setNotice({ text: error.message, refused: true });
    }
    await reread();
  };

  const say = async (text: string) => {
    if (room === null) return;
    setNotice(null);
    await api.say(platform.name, personId, room.id, text, replyTo?.id ?? null);
    await reread();
  };

  const sign = platform.name === "slack" ? "#" : "";
  const Body = platform.name === "slack" ? SlackBody : TeamsBody;

  return (
    <section
      className={`pane pane-${platform.name === "slack" ? "slack" : "teams"}`}
      aria-label={titleOf(platform.name)}
      hidden={!shown}
      data-testid={`pane-${platform.name}`}
      data-person={personId}
      data-room={room?.id}
      data-loaded={loaded}
    >
      <PersonSwitch platform={platform} personId={personId} unread={unread} onChoose={(id) => moveTo(id, null)} />
      <RoomList
        rooms={rooms}
        current={room?.id ?? null}
        unread={unread}
        sign={sign}
        workspace={titleOf(platform.name)}
        onChoose={(id) => moveTo(personId, id)}
      />
      <div className="room">
        <RoomHeader room={room} sign={sign} />
        <Conversation
          key={`${personId}/${room?.id}`}
          messages={view.messages}
          loaded={loaded}
          me={personId}
          look={platform.name === "slack" ? "slack" : room?.direct ? "chat" : "posts"}
          replyTo={replyTo?.id ?? null}
          onReply={setReplyTo}
          renderBody={(message) => (
            <Body
              message={message}
              people={known}
              messages={view.messages}
              disabled={away}
              onPress={(action) => press(message.id, action)}
            />
          )}
        />
        <NoticeBar notice={notice} onClose={() => setNotice(null)} />
        <Composer
          key={`composer/${personId}/${room?.id}`}
          platform={platform.name}
          person={person?.name ?? ""}
          room={room}
          replyTo={replyTo}
          thread={lastThread(view.messages)}
          disabled={away || room === null}
          onReplyTo={setReplyTo}
          onSay={say}
        />
      </div>
      {shown && view.modal !== null && (
        <SlackModal
          key={String(view.modal.id)}
          view={view.modal}
          users={known}
          onPress={(action) => press(String(view.modal?.id), action)}
          onSubmit={async (values) => {
            await api.modal(platform.name, personId, values);
            await reread();
          }}
        />
      )}
    </section>
  );
}

/** The newest message that has replies, or could have them: where "this thread" points when none was chosen. */
function lastThread(messages: Message[]): Message | null {
  const lastReply = messages.findLast((message) => message.thread !== null);
  return messages.find((message) => message.id === lastReply?.thread) ?? null;
}

/** Rooms where something changed since they were last on show. */
function useUnread(platform: Platform, ticks: Ticks, shownRoom: string | null): Set<string> {
  const seen = useRef<Record<string, number>>({});
  const prefix = `${platform.name}/`;
  if (shownRoom !== null) seen.current[prefix + shownRoom] = ticks.rooms[prefix + shownRoom] ?? 0;
  const unread = Object.entries(ticks.rooms).filter(
    ([key, count]) => key.startsWith(prefix) && count > (seen.current[key] ?? 0),
  );
  return new Set(unread.map(([key]) => key.slice(prefix.length)));
}

function PersonSwitch(props: {
  platform: Platform;
  personId: string;
  unread: Set<string>;
  onChoose: (person: string) => void;
}) {
  const { platform, personId, unread, onChoose } = props;
  const mine = new Set((platform.rooms[personId] ?? []).map((room) => room.id));
  return (
    <div className="who" role="group" aria-label={`You are, in ${titleOf(platform.name)}`}>
      <span className="who-label">You are</span>
      {platform.people.map((someone, index) => {
        const waits = (platform.rooms[someone.id] ?? []).some((room) => unread.has(room.id) && !mine.has(room.id));
        return (
          <button
            key={someone.id}
            type="button"
            aria-pressed={someone.id === personId}
            data-testid={`person-${index}`}
            onClick={() => onChoose(someone.id)}
          >
            <Avatar name={someone.name} small />
            <b>{someone.name}</b>
            <span className="who-role">{ROLES[index] ?? "member"}</span>
            {waits && <span className="dot" title="Something new" aria-label="something new" />}
          </button>
        );
      })}
    </div>
  );
}

function RoomList(props: {
  rooms: Room[];
  current: string | null;
  unread: Set<string>;
  /** Stands before a channel's name. */
  sign: string;
  workspace: string;
  onChoose: (room: string) => void;
}) {
  const group = (title: string, rooms: Room[]) =>
    rooms.length > 0 && (
      <>
        <h3>{title}</h3>
        <ul>
          {rooms.map((room) => (
            <li key={room.id}>
              <button
                type="button"
                aria-current={room.id === props.current ? "page" : undefined}
                className={props.unread.has(room.id) ? "unread" : undefined}
                data-testid={room.direct ? "room-direct" : `room-${bare(room.name).toLowerCase()}`}
                onClick={() => props.onChoose(room.id)}
              >
                {room.direct ? <Avatar name="Countersign" app small /> : <ChannelSign sign={props.sign} />}
                <span className="room-name">{room.direct ? "Countersign" : bare(room.name)}</span>
                {props.unread.has(room.id) && <span className="dot" aria-label="new messages" />}
              </button>
            </li>
          ))}
        </ul>
      </>
    );
  return (
    <nav className="rooms" aria-label={`Rooms in ${props.workspace}`}>
      <h2>{props.workspace}</h2>
      {group(
        "Channels",
        props.rooms.filter((room) => !room.direct),
      )}
      {group(
        "Direct messages",
        props.rooms.filter((room) => room.direct),
      )}
    </nav>
  );
}

function ChannelSign({ sign }: { sign: string }) {
  if (sign !== "") return <span className="hash">{sign}</span>;
  return (
    <span className="hash" aria-hidden="true">
      <svg viewBox="0 0 20 20" width="15" height="15">
        <path
          d="M3 4.5h14v9H9l-3.5 3v-3H3z"
          fill="none"
          stroke="currentColor"
          strokeWidth="1.4"
          strokeLinejoin="round"
        />
      </svg>
    </span>
  );
}

function RoomHeader({ room, sign }: { room: Room | null; sign: string }) {
  if (room === null) return null;
  return (
    <div className="room-header">
      <h2>{room.direct ? "Countersign" : `${sign} ${bare(room.name)}`}</h2>
      <p>{room.direct ? "Direct message" : "Requester, approver and Countersign are here"}</p>
    </div>
  );
}

function NoticeBar({ notice, onClose }: { notice: Notice | null; onClose: () => void }) {
  return (
    <div role="status" aria-live="polite" className="notice-place">
      {notice && (
        <div className={notice.refused ? "notice notice-refused" : "notice"} data-testid="notice">
          <span>{notice.text}</span>
          <button type="button" aria-label="Dismiss" onClick={onClose}>
            ×
          </button>
        </div>
      )}
    </div>
  );
}

function bare(name: string): string {
  return name.replace(/^#\s*/, "");
}
