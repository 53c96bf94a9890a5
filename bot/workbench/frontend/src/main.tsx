import { createRoot } from "react-dom/client";
import { App } from "./app";
import "slack-blocks-to-jsx/dist/style.css";
import "./styles/base.css";
import "./styles/slack.css";
import "./styles/teams.css";
import "./styles/trace.css";

createRoot(document.getElementById("root")!).render(<App />);
