import { useCallback, useEffect, useRef, useState } from "react";
import { api, type RoomView } from "./api";

const NOTHING: RoomView = { messages: [], modal: null };

/**
 * What a person sees in a room, read again whenever `version` changes.
 *
 * One request at a time: changes heard while one is under way lead to one more, however many they were, so a message
 * that is being written quickly costs no more than the server can answer.
 */
export function useRoom(platform: string, room: string | null, person: string, version: string) {
  const [view, setView] = useState<{ of: string; seen: RoomView }>({ of: "", seen: NOTHING });
  const wanted = `${room}/${person}`;
  const current = useRef(wanted);
  const busy = useRef(false);
  const again = useRef(false);
  current.current = wanted;

  const read = useCallback(async () => {
    if (busy.current) {
      again.current = true;
      return;
    }
    busy.current = true;
    try {
      do {
        again.current = false;
        const of = current.current;
        const slash = of.lastIndexOf("/");
        const seen = await api.messages(platform, of.slice(0, slash), of.slice(slash + 1));
        if (current.current === of) setView({ of, seen });
      } while (again.current);
    } catch {
      // The live stream tells when the server is away, and a change when it is back leads here again.
    } finally {
      busy.current = false;
    }
  }, [platform]);

  useEffect(() => {
    if (room !== null) void read();
  }, [read, room, person, version]);

  return { view: view.of === wanted ? view.seen : NOTHING, loaded: view.of === wanted, reread: read };
}
