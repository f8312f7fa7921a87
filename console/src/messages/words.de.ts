/** German words for codes of data. */

import type { wordsEn } from "./words.en";

export const wordsDe: typeof wordsEn = {
  events: {
    chapter_progress: "Fortschritt",
    chapter_complete: "Kapitel abgeschlossen",
    quiz_attempt: "Quiz gemacht",
    heartbeat: "Lebenszeichen",
    progress_reset: "Fortschritt zurückgesetzt",
    chapter_waived: "Kapitel erlassen",
    attempt_renewed: "Versuch erneuert",
  },
  flags: {
    future: "Zeit liegt in der Zukunft",
    ancient: "Zeit liegt weit zurück",
    implausible_time: "Mehr Zeit, als vergangen ist",
    two_courses: "Zwei Kurse zur selben Zeit",
    untrusted_score: "Punktzahl vom Gerät der Person",
    clock_corrected: "Uhr berichtigt",
  },
  steps: {
    credential: "Nachweis",
    analytics: "Analyse",
    hr: "Meldung an HR",
    xapi: "xAPI-Eintrag",
  },
  channels: { in_app: "In der App", email: "E-Mail", sms: "SMS", chat: "Chat" },
  messages: {
    log_reminder: "Erinnerung an einen Bericht",
    deadline_warning: "Warnung vor der Frist",
    manager_report: "Meldung an Verantwortliche",
    late_log: "Später Bericht",
    compliance_warning: "Warnung wegen fehlender Berichte",
    compliance_copy: "Kopie der Warnung",
    unmanaged_programme: "Niemand verantwortlich",
    schedule_missed: "Zeitplan verpasst",
    alert: "Alarm",
    credential_issued: "Nachweis ausgestellt",
    credential_expiring: "Nachweis läuft ab",
  },
  partners: {
    credentials: "Nachweise",
    directory: "Verzeichnis",
    scores: "Punktzahlen",
    webhook: "Webhook",
    lrs: "Lernprotokoll",
    mail: "Mailserver",
  },
  outcomes: {
    done: "Erledigt",
    retry: "Gescheitert, neuer Versuch",
    exhausted: "Gescheitert, war der letzte",
    fail: "Gescheitert",
    cancel: "Abgebrochen",
    lost: "Worker verloren",
  },
  cron: {
    hourly: "Stündlich zur Minute {minute}",
    everyMinutes: "Alle {count} Minuten",
    daily: "Täglich um {time}",
    weekly: "{day} um {time}",
  },
};
