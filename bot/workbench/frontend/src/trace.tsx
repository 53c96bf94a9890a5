import { useCallback, useMemo, useRef, useState } from "react";
import { api, type TraceEntry } from "./api";

/** As many as the column keeps; older ones stay in the record. */
const KEPT = 400;

/** The trace as read so far, with a `refresh` that reads what is new. */
export function useTrace() {
  const [entries, setEntries] = useState<TraceEntry[]>([]);
  const last = useRef(0);
  const busy = useRef(false);
  const again = useRef(false);

  const refresh = useCallback(() => {
    if (busy.current) {
      again.current = true;
      return;
    }
    busy.current = true;
    const read = async () => {
      do {
        again.current = false;
        const fresh = (await api.trace(last.current)).entries.filter((entry) => entry.id > last.current);
        const newest = fresh.at(-1);
        if (newest) {
          last.current = newest.id;
          setEntries((known) => [...known, ...fresh].slice(-KEPT));
        }
      } while (again.current);
    };
    read()
      // The live stream tells when the server is away, and asks again when it is back.
      .catch(() => {})
      .finally(() => {
        busy.current = false;
      });
  }, []);
  const lastId = useCallback(() => last.current, []);
  return useMemo(() => ({ entries, refresh, lastId }), [entries, refresh, lastId]);
}

interface RequestTrace {
  id: string;
  entries: TraceEntry[];
}

/** Entries by request, the request that moved last on top. */
function byRequest(entries: TraceEntry[]): RequestTrace[] {
  const groups = new Map<string, RequestTrace>();
  for (const entry of entries) {
    const group = groups.get(entry.request_id) ?? { id: entry.request_id, entries: [] };
    group.entries.push(entry);
    groups.delete(entry.request_id);
    groups.set(entry.request_id, group);
  }
  return [...groups.values()].reverse();
}

const OPEN_FROM_THE_START = 3;

export function Trace({ entries }: { entries: TraceEntry[] }) {
  const requests = useMemo(() => byRequest(entries), [entries]);
  return (
    <aside className="trace" aria-label="Trace" data-testid="trace">
      <div className="trace-head">
        <h2>Trace</h2>
        <p>What Countersign did with each request, step by step.</p>
      </div>
      <div className="trace-list" tabIndex={0} role="log" aria-live="polite" aria-label="Steps, newest request first">
        {requests.length === 0 && <p className="empty">Steps appear here once somebody asks for something.</p>}
        {requests.map((request, index) => (
          <RequestSteps key={request.id} request={request} open={index < OPEN_FROM_THE_START} />
        ))}
      </div>
    </aside>
  );
}

function RequestSteps({ request, open }: { request: RequestTrace; open: boolean }) {
  const [toggled, setToggled] = useState<boolean | null>(null);
  const shown = toggled ?? open;
  const first = request.entries[0];
  const latest = request.entries.at(-1);
  if (!first || !latest) return null;
  return (
    <section className="request" data-testid="trace-request" data-request={request.id}>
      <h3>
        <button type="button" aria-expanded={shown} onClick={() => setToggled(!shown)}>
          <span className="chevron" aria-hidden="true" />
          <code>{request.id}</code>
          <span className="request-count">
            {request.entries.length} {request.entries.length === 1 ? "step" : "steps"}
          </span>
          <StepTime at={latest.at} />
        </button>
      </h3>
      {shown ? (
        <ol>
          {request.entries.map((entry) => (
            <Step key={entry.id} entry={entry} />
          ))}
        </ol>
      ) : (
        <p className="request-latest">
          <Stage name={latest.stage} /> {latest.text}
        </p>
      )}
    </section>
  );
}

function Step({ entry }: { entry: TraceEntry }) {
  return (
    <li data-testid="trace-entry" data-stage={entry.stage}>
      <details>
        <summary>
          <StepTime at={entry.at} />
          <Stage name={entry.stage} />
          <span className="step-text">{entry.text}</span>
        </summary>
        <dl>
          <Field name="Request" value={entry.request_id} />
          <Field name="Approval" value={entry.approval_id} />
          <Field name="Execution" value={entry.execution_id} />
          <Field name="Entry" value={String(entry.id)} />
          <Field name="Time" value={entry.at} />
        </dl>
      </details>
    </li>
  );
}

function Field({ name, value }: { name: string; value: string | null }) {
  if (value === null) return null;
  return (
    <>
      <dt>{name}</dt>
      <dd>
        <code>{value}</code>
      </dd>
    </>
  );
}

function Stage({ name }: { name: string }) {
  return (
    <span className="stage" data-stage={name}>
      {name}
    </span>
  );
}

function StepTime({ at }: { at: string }) {
  const moment = new Date(at);
  const text = moment.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
  return <time dateTime={at}>{text}</time>;
}
