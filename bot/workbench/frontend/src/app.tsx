import { useCallback, useEffect, useReducer, useRef, useState } from "react";
import { api, type Platform } from "./api";
import { type Change, useLive } from "./live";
import { Pane } from "./pane";
import { Trace, useTrace } from "./trace";
import { useMedia } from "./use-media";

/** Counts of the changes heard: a higher number than the one last seen means there is something new to read. */
export interface Ticks {
  /** Times the live stream was opened. */
  epoch: number;
  /** By `platform/room`. */
  rooms: Record<string, number>;
  /** By platform. */
  modals: Record<string, number>;
}

function countChange(ticks: Ticks, change: Change): Ticks {
  switch (change.kind) {
    case "connected":
      return { ...ticks, epoch: ticks.epoch + 1 };
    case "room": {
      const key = `${change.platform}/${change.room}`;
      return { ...ticks, rooms: { ...ticks.rooms, [key]: (ticks.rooms[key] ?? 0) + 1 } };
    }
    case "modal":
      return { ...ticks, modals: { ...ticks.modals, [change.platform]: (ticks.modals[change.platform] ?? 0) + 1 } };
    case "trace":
      return ticks;
  }
}

const BOTH = "both";
const WIDE_ENOUGH_FOR_BOTH = "(min-width: 1500px)";

export function App() {
  const [platforms, setPlatforms] = useState<Platform[]>([]);
  const [chosen, setChosen] = useState<string | null>(null);
  const [ticks, count] = useReducer(countChange, { epoch: 0, rooms: {}, modals: {} });
  const wide = useMedia(WIDE_ENOUGH_FOR_BOTH);
  const trace = useTrace();

  const onChange = useCallback(
    (change: Change) => {
      count(change);
      if (change.kind === "trace" || change.kind === "connected") trace.refresh();
      if (change.kind === "connected") {
        // An error here is the server going away again, which the live stream reports.
        api.state().then(
          (state) => setPlatforms(state.platforms),
          () => {},
        );
      }
    },
    [trace],
  );
  const { connection, retry } = useLive(trace.lastId, onChange);

  const offersBoth = wide && platforms.length > 1;
  const view = chosen === BOTH && !offersBoth ? (platforms[0]?.name ?? null) : (chosen ?? platforms[0]?.name ?? null);

  return (
    <div className="workbench" data-testid="workbench" data-connection={connection}>
      <header className="top">
        <Seal />
        <div className="top-name">
          <h1>Countersign</h1>
          <p>Work gets done. Nothing risky without a signature.</p>
        </div>
        <PlatformSwitch platforms={platforms} offersBoth={offersBoth} view={view} onChoose={setChosen} />
        <span className="top-note">Workbench · this machine only</span>
      </header>
      <ConnectionBanner connection={connection} onRetry={retry} />
      <div className="columns" data-view={view === BOTH ? "both" : "one"}>
        <main className="panes">
          {platforms.map((platform) => (
            <Pane
              key={platform.name}
              platform={platform}
              ticks={ticks}
              shown={view === BOTH || view === platform.name}
              away={connection !== "connected"}
            />
          ))}
          {platforms.length === 0 && connection === "connected" && (
            <p className="empty">No local platform is running.</p>
          )}
        </main>
        <Trace entries={trace.entries} />
      </div>
    </div>
  );
}

function PlatformSwitch(props: {
  platforms: Platform[];
  offersBoth: boolean;
  view: string | null;
  onChoose: (view: string) => void;
}) {
  const options = props.platforms.map((platform) => ({ value: platform.name, label: titleOf(platform.name) }));
  if (props.offersBoth) options.push({ value: BOTH, label: "Side by side" });
  return (
    <div className="switch" role="group" aria-label="Platform">
      {options.map((option) => (
        <button
          key={option.value}
          type="button"
          aria-pressed={props.view === option.value}
          data-testid={`platform-${option.value}`}
          onClick={() => props.onChoose(option.value)}
        >
          {option.label}
        </button>
      ))}
    </div>
  );
}

/** The bar shown while the server does not answer, and for a moment once it does again. */
function ConnectionBanner({ connection, onRetry }: { connection: string; onRetry: () => void }) {
  const wasAway = useRef(false);
  const [isBack, setIsBack] = useState(false);
  useEffect(() => {
    if (connection === "away") wasAway.current = true;
    if (connection !== "connected" || !wasAway.current) return;
    wasAway.current = false;
    setIsBack(true);
    const timer = window.setTimeout(() => setIsBack(false), 3_000);
    return () => window.clearTimeout(timer);
  }, [connection]);

  return (
    <div role="status" aria-live="polite">
      {connection === "away" && (
        <div className="banner banner-away" data-testid="banner-away">
          <span>Countersign is not answering. What you see may be out of date; trying again…</span>
          <button type="button" onClick={onRetry}>
            Try now
          </button>
        </div>
      )}
      {connection === "connected" && isBack && (
        <div className="banner banner-back" data-testid="banner-back">
          Countersign is back, and this page is up to date.
        </div>
      )}
    </div>
  );
}

function Seal() {
  return (
    <svg className="seal" viewBox="0 0 32 32" aria-hidden="true">
      <rect width="32" height="32" rx="8" fill="#1d4853" />
      <path
        d="M8 16.5l5 5L24 9"
        fill="none"
        stroke="#5fd6b4"
        strokeWidth="3.4"
        strokeLinecap="round"
        strokeLinejoin="round"
      />
      <path d="M8 25.6h16" stroke="#fff" strokeWidth="2" strokeLinecap="round" opacity=".75" />
    </svg>
  );
}

export function titleOf(name: string): string {
  return name.charAt(0).toUpperCase() + name.slice(1);
}
