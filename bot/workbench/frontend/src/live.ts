import { useEffect, useRef, useState } from "react";

/** Something changed on the server; what it changed to is asked for separately. */
export type Change =
  | { kind: "room"; platform: string; room: string }
  | { kind: "modal"; platform: string }
  | { kind: "trace" }
  | { kind: "connected" };

export type Connection = "connecting" | "connected" | "away";

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 8_000;

/**
 * Listens to the server's live stream for as long as the page is open.
 *
 * A lost stream is opened again after 0.5 s, doubling to 8 s; `retry` does it now. Every time it opens, a `connected`
 * change tells the page to read everything again, since what happened in between was not heard.
 */
export function useLive(lastTraceId: () => number, onChange: (change: Change) => void) {
  const [connection, setConnection] = useState<Connection>("connecting");
  const listener = useRef(onChange);
  const lastId = useRef(lastTraceId);
  const connectNow = useRef<() => void>(() => {});
  listener.current = onChange;
  lastId.current = lastTraceId;

  useEffect(() => {
    let source: EventSource | null = null;
    let timer: number | undefined;
    let wait = FIRST_WAIT_MS;

    const connect = () => {
      window.clearTimeout(timer);
      source?.close();
      const opened = new EventSource(`/workbench/live?after=${lastId.current()}`);
      source = opened;
      const on = (name: string, change: (data: Record<string, string>) => Change) =>
        opened.addEventListener(name, (event) =>
          listener.current(change(JSON.parse((event as MessageEvent<string>).data))),
        );
      opened.addEventListener("hello", () => {
        wait = FIRST_WAIT_MS;
        setConnection("connected");
        listener.current({ kind: "connected" });
      });
      on("room", (data) => ({ kind: "room", platform: data.platform ?? "", room: data.room ?? "" }));
      on("modal", (data) => ({ kind: "modal", platform: data.platform ?? "" }));
      on("trace", () => ({ kind: "trace" }));
      opened.onerror = () => {
        opened.close();
        setConnection("away");
        timer = window.setTimeout(connect, wait);
        wait = Math.min(wait * 2, LONGEST_WAIT_MS);
      };
    };
    connectNow.current = connect;
    connect();
    return () => {
      window.clearTimeout(timer);
      source?.close();
    };
  }, []);

  return { connection, retry: () => connectNow.current() };
}
