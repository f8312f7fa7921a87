import { ClientProgressQueue } from "../src/index.js";

// Counts what wakes the page: an idle queue must not.
window.wakeUps = 0;
const { setTimeout: later } = window;
window.setTimeout = ((run: () => void, wait?: number) =>
  later(() => {
    window.wakeUps++;
    run();
  }, wait)) as typeof setTimeout;

window.queue = new ClientProgressQueue(JSON.parse(decodeURIComponent(location.hash.slice(1))));
