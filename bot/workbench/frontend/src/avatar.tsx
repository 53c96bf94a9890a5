const COLOURS = ["#7c3aed", "#c2410c", "#0e7490", "#be185d", "#4d7c0f", "#1d4ed8"];

/** Initials on a colour of the person's own; the assistant has its mark. */
export function Avatar({ name, app = false, small = false }: { name: string; app?: boolean; small?: boolean }) {
  const size = small ? "avatar avatar-small" : "avatar";
  if (app) {
    return (
      <span className={`${size} avatar-app`} aria-hidden="true">
        <svg viewBox="0 0 32 32">
          <path
            d="M8 16.5l5 5L24 9"
            fill="none"
            stroke="#5fd6b4"
            strokeWidth="4"
            strokeLinecap="round"
            strokeLinejoin="round"
          />
          <path d="M8 26h16" stroke="#fff" strokeWidth="2.4" strokeLinecap="round" opacity=".8" />
        </svg>
      </span>
    );
  }
  const sum = [...name].reduce((total, letter) => total + (letter.codePointAt(0) ?? 0), 0);
  return (
    <span className={size} style={{ background: COLOURS[sum % COLOURS.length] }} aria-hidden="true">
      {initials(name)}
    </span>
  );
}

function initials(name: string): string {
  const words = name.trim().split(/\s+/);
  const letters = words.length > 1 ? [words[0], words.at(-1)] : [words[0]];
  return letters.map((word) => word?.charAt(0).toUpperCase() ?? "").join("");
}
