import MarkdownIt from "markdown-it";
import { createElement, Fragment, type ReactNode } from "react";

/** What markdown may turn into here; any other tag gives way to what is in it. */
const KEPT_TAGS = new Set(["p", "strong", "em", "blockquote", "pre", "code", "br", "ul", "ol", "li", "s"]);

const markdown = new MarkdownIt({ html: false, linkify: false }).disable("image");
markdown.inline.ruler.before("text", "mention", (state, silent) => {
  const found = /^<at>([^<>]*)<\/at>/.exec(state.src.slice(state.pos));
  if (!found) return false;
  if (!silent) state.push("mention", "", 0).content = found[1] ?? "";
  state.pos += found[0].length;
  return true;
});
markdown.renderer.rules.mention = (tokens, index) => `<at>${tokens[index]?.content ?? ""}</at>`;

/**
 * Message text: what a person wrote is characters and mentions; what the assistant wrote is Markdown without HTML.
 *
 * What Markdown makes of it is read into a detached document, where nothing runs or loads; only kept tags are drawn.
 */
export function TeamsText({ text, formatted }: { text: string; formatted: boolean }) {
  if (!formatted) return <p className="teams-text teams-typed">{withMentions(text)}</p>;
  const parsed = new DOMParser().parseFromString(markdown.render(text), "text/html");
  return <div className="teams-text">{drawn(parsed.body)}</div>;
}

function drawn(node: Node): ReactNode[] {
  return [...node.childNodes].map((child, index) => {
    if (child.nodeType === Node.TEXT_NODE) return <Fragment key={index}>{child.textContent}</Fragment>;
    if (!(child instanceof HTMLElement)) return null;
    const tag = child.tagName.toLowerCase();
    if (tag === "br") return <br key={index} />;
    if (tag === "at") return <Mention key={index} name={child.textContent ?? ""} />;
    if (tag === "a") return <Link key={index} element={child} />;
    if (KEPT_TAGS.has(tag)) return createElement(tag, { key: index }, ...drawn(child));
    return <Fragment key={index}>{drawn(child)}</Fragment>;
  });
}

function Mention({ name }: { name: string }) {
  return <span className="teams-mention">{name}</span>;
}

function Link({ element }: { element: HTMLElement }) {
  const href = element.getAttribute("href") ?? "";
  if (!/^https?:\/\//i.test(href)) return <>{drawn(element)}</>;
  return (
    <a href={href} target="_blank" rel="noopener noreferrer">
      {drawn(element)}
    </a>
  );
}

function withMentions(text: string): ReactNode[] {
  return text
    .split(/(<at(?:\s[^>]*)?>.*?<\/at>)/)
    .map((piece, index) =>
      index % 2 === 1 ? (
        <Mention key={index} name={piece.replace(/<[^>]*>/g, "")} />
      ) : (
        <Fragment key={index}>{piece}</Fragment>
      ),
    );
}
