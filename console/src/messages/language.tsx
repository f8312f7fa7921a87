/** The language of the console: the browser's, or the one that was chosen here. */

import { createContext, type ReactNode, useContext, useEffect, useState } from "react";
import { IntlProvider } from "use-intl";
import { de } from "./de";
import { en, type Messages } from "./en";

export const LANGUAGES = { en, de } as const;
export type Language = keyof typeof LANGUAGES;

declare module "use-intl" {
  interface AppConfig {
    Messages: Messages;
  }
}

const STORED = "homeroom.language";
const Chosen = createContext<{ language: Language; choose: (language: Language) => void }>({
  language: "en",
  choose: () => {},
});

function firstLanguage(): Language {
  const wished = [localStorage.getItem(STORED), ...navigator.languages];
  for (const each of wished) {
    const language = each?.slice(0, 2);
    if (language && language in LANGUAGES) return language as Language;
  }
  return "en";
}

/** Return the reader's own kind of a language, such as `en-GB`: it decides how dates are written. */
function withRegion(language: Language): string {
  return navigator.languages.find((each) => each.startsWith(language)) ?? language;
}

export const useLanguage = () => useContext(Chosen);

export function LanguageProvider({ children }: { children: ReactNode }) {
  const [language, setLanguage] = useState(firstLanguage);
  useEffect(() => {
    document.documentElement.lang = language;
  }, [language]);
  const choose = (next: Language) => {
    localStorage.setItem(STORED, next);
    setLanguage(next);
  };
  return (
    <Chosen value={{ language, choose }}>
      <IntlProvider
        locale={withRegion(language)}
        messages={LANGUAGES[language]}
        timeZone={Intl.DateTimeFormat().resolvedOptions().timeZone}
      >
        {children}
      </IntlProvider>
    </Chosen>
  );
}
