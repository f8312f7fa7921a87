/** The focus of panels that a link or a button of a table opens in the same page. */

import { type RefObject, useEffect, useRef } from "react";

/** Return the ref of a panel's heading, which gets the focus if a table opened the panel. */
export function useOpenedHeading(): RefObject<HTMLHeadingElement | null> {
  const heading = useRef<HTMLHeadingElement>(null);
  useEffect(() => {
    if (document.activeElement?.closest("main table")) heading.current?.focus();
  }, []);
  return heading;
}
