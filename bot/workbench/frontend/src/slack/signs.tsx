import type { ReactNode } from "react";

/**
 * The signs that stand before a card's title. Slack draws its emoji as pictures of its own, and so does this page: the
 * machine it runs on may have no emoji font.
 */
const SIGNS: Record<string, { name: string; picture: ReactNode }> = {
  "⏳": {
    name: "waiting",
    picture: (
      <>
        <path d="M5 2h10v2l-1 .8c0 2.6-1.3 3.9-2.6 5.2 1.3 1.3 2.6 2.6 2.6 5.2l1 .8v2H5v-2l1-.8c0-2.6 1.3-3.9 2.6-5.2C7.3 8.7 6 7.4 6 4.8L5 4z" fill="#b98a3e" />
        <path d="M7.5 5h5c-.2 1.9-1.3 3-2.5 4.2C8.8 8 7.7 6.9 7.5 5zM7 15.5c.3-1.7 1.6-2.6 3-3.7 1.4 1.1 2.7 2 3 3.7z" fill="#ffe9b8" />
      </>
    ),
  },
  "✅": {
    name: "done",
    picture: (
      <>
        <rect x="2" y="2" width="16" height="16" rx="3" fill="#2ea664" />
        <path d="M5.5 10.3l3 3 6-6.8" fill="none" stroke="#fff" strokeWidth="2.4" strokeLinecap="round" strokeLinejoin="round" />
      </>
    ),
  },
  "⚠️": {
    name: "warning",
    picture: (
      <>
        <path d="M10 2.2 18.6 17.5H1.4z" fill="#f5b83d" strokeLinejoin="round" stroke="#f5b83d" strokeWidth="1.5" />
        <path d="M10 7.5v5M10 15v.2" stroke="#3b2a00" strokeWidth="2" strokeLinecap="round" />
      </>
    ),
  },
  "⛔": {
    name: "stopped",
    picture: (
      <>
        <circle cx="10" cy="10" r="8.5" fill="#d5263f" />
        <rect x="4.5" y="8.5" width="11" height="3" rx="1" fill="#fff" />
      </>
    ),
  },
};

const ANY_SIGN = new RegExp(`(${Object.keys(SIGNS).join("|")})`);

/** Text with its signs as pictures. */
export function WithSigns({ text }: { text: string }) {
  return text.split(ANY_SIGN).map((piece, index) => {
    const sign = SIGNS[piece];
    if (!sign) return piece;
    return (
      <svg key={index} className="slack-sign" viewBox="0 0 20 20" role="img" aria-label={sign.name}>
        {sign.picture}
      </svg>
    );
  });
}
