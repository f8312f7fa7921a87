import { useState } from "react";

const { fetch } = globalThis;

/** A switch that cuts this page off from the network, as a tunnel would. */
export function useOfflineSwitch(): [offline: boolean, set: (offline: boolean) => void] {
  const [offline, setOffline] = useState(false);
  return [
    offline,
    (cut) => {
      globalThis.fetch = cut ? () => Promise.reject(new TypeError("The switch is off.")) : fetch;
      setOffline(cut);
      // The queue tries again at once when a browser says that it is online.
      if (!cut) window.dispatchEvent(new Event("online"));
    },
  ];
}
