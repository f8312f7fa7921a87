"""Descriptions of fields and parameters that have none where they are declared.

The same name means the same in all schemas; where it does not, the field has a description of its
own, or an entry ``Schema.field`` here. ``tests/docs`` fails for a field without any.
"""

from __future__ import annotations

_TEXTS = """
accepted: Number of events that count.
acceptedAt: When the channel's server accepted it.
accessibility: What makes the lesson accessible.
achievedAt: The date of the completion with which the rule was fulfilled.
action: What was done, such as `key.made`; for jobs, what to do.
active: Number of running jobs.
activeJobs: Number of running jobs.
activeWorkers: Number of workers that respond.
activities: The activities in order; their minutes add up to the lesson's.
actor: Who did it: a user id, or the name of an API key.
address: The address on its channel, masked where the reader may not see it.
addresses: Addresses on the channels.
all: Every one of these criteria has to hold.
allClear: Tell managers also when nothing is missing.
allComplete: Every module has its lessons.
answer: The right answer.
any: At least one of these criteria has to hold.
approved: The completion was approved by hand.
archivedAt: When the course was archived; null: it takes new enrolments.
assessments: How the outcomes are assessed.
at: The time of the entry.
attempt: Number of the learner's attempt at the course, from 1.
attemptId: Id of the quiz attempt, chosen by the sender.
attempts: Number of attempts.
attemptsMade: Number of attempts.
attendance: Attendance of each session.
autoEnrol: A learner's first event enrols.
averageProcessingMs: Mean time of an ingest commit, in milliseconds.
awardId: Id of the achievement whose credential it is; null for that of a completion.
awardedAt: When it was awarded.
badgeTemplateId: Id of the badge template at the issuer.
bloomLevel: Level of Bloom's taxonomy.
blueprint: What a quiz on the outcomes consists of.
cancelRequested: The job is to stop.
catchUpSeconds: How late a missed slot may still fire, in seconds.
changes: What would change.
channel: The channel, such as `email`.
channels: The channels of the message type, and whether each is on.
chapterId: Id of the chapter, unique in the course.
chapterProgress: Percent of the chapter after this event.
chapters: The chapters, in the course's order.
chat: Name at the chat service.
checklist: What an observer ticks off.
checks: The state of each part.
closedOn: Days without sessions.
code: Stable; for programs.
completed: Whether it is complete; of jobs, the number of completed ones.
completedAt: When the course was completed; null before.
completedChapters: Number of satisfied chapters, optional ones too.
completedRequired: Number of satisfied chapters among `requiredChapters`.
completionId: Id of the completion.
completionTokens: Output tokens.
compliance: Share of logs in time.
concurrency: Jobs that run at once.
conflict: Number of events whose id belongs to a different event.
continuing: It was missing before, too.
copyFacilitator: Send the facilitator a copy.
correction: What is right.
cost: Cost in `currency`.
costComplete: The cost of every call is known.
count: The number of records.
counts: Number of jobs by state.
courseId: Id of the course.
courseProgress: Percent of the course after this event.
courseTitle: Title of the course at completion.
courseVersion: Version of the course at completion.
coverage: Which outcomes the lessons cover.
createdAt: When it was created.
createdBy: Who created it.
credential: The credential, if one was issued.
criterion: What is judged.
cron: The cron expression.
currency: Currency of the cost (ISO 4217).
data: The content of the answer or of the job.
deadlineAt: When it is late.
default: The value without the setting.
definition: What the term means.
delayed: Number of jobs that wait for their time.
deliveredAt: When it was delivered.
deliveries: What would go out on each channel.
deliveryMode: How the lessons are held.
description: What the setting does.
destination: Name of the partner system.
detail: What happened, for people.
details: More about it.
differentiation: Support and stretch for different learners.
digestAt: Local time of the digest.
disabledReason: Why it was switched off.
distractors: Wrong answers that are plausible.
dropping: Chapters that the new version drops.
dryRun: Only count, and change nothing.
duplicate: Number of events that count already.
durationMinutes: Length in minutes.
edited: A person has edited it.
email: E-mail address.
end: The end.
endsOn: The last day.
endedAt: When the enrolment was ended; null: it goes on.
enrolledAt: When the learner was enrolled.
error: What went wrong.
errorRate: Share of failed requests of the last minute.
errors: The faults, one by one.
estimatedHours: Learning time in hours.
estimatedTimeMinutes: Expected duration in minutes.
estimatedTimeRemainingSeconds: Expected remaining time in seconds.
eventId: Id of the event.
events: The events.
eventsPerSecond: Events of the last minute, per second.
eventType: Type of the event.
examples: Examples of what is explained.
exemptReason: Why no log is due; null if one is.
exitQuiz: Questions at the end, on the outcomes of the lesson.
expected: The number that was expected.
expiresAt: When it ends; null for never.
explanation: What is said and shown of new content.
exportedAt: When the export was made.
externalId: Its id at the partner.
facilitatorDoes: What the facilitator does.
facilitatorId: User id of the facilitator.
facilitatorName: Name of the facilitator.
failed: Number of failed jobs.
failedJobs: Number of failed jobs.
failedReason: Why the job failed.
failedSteps: Number of steps that are not tried again by themselves.
failures: Failures in a row.
familyName: Family name.
feedback: What learners are told about their answer or task.
filter: Which jobs.
finishedAt: When it ended; null before.
firedAt: When it fired.
gaps: What is missing.
generator: What wrote it.
givenName: Given name.
graceMinutes: Minutes after the deadline in which a log is not late.
grade: Grade from 0 to 1.
grading: What was graded.
group: Group of the setting.
groupIds: Groups of the person, such as wards or departments.
heartbeatAt: The last sign of life.
held: Number of events that stay in quarantine.
heldJobs: Number of jobs that wait for the partner.
heldOn: The day of the session.
homework: What to do afterwards.
host: Name of the machine.
httpStatus: HTTP status of the answer.
id: Id of the record.
ignored: Number of reports that change nothing, such as notices of delays.
in: Where the parameter is.
inputTokens: Tokens of the request.
isConfigured: It is set up.
isListed: Search engines may list the credential's page.
isSet: It is set.
issuedAt: When it was issued.
issuer: Who issued it.
issuerState: Its state at the issuer.
items: The records of this page.
jobId: Id of the job; null without one.
jobName: Kind of the job.
jobs: The jobs, or their numbers.
jobsCancelled: Number of cancelled jobs.
jobsQueued: Number of queued jobs; 0 while one runs.
key: What makes it unique.
keyExpiresAt: When its key expires at the latest; null if that is not known.
keyPoints: The main points.
kind: The kind of it.
known: Learners whose address is known.
lastActivityAt: The latest event; null without one.
lastAnswer: The beginning of the answer that accepted the message, redacted.
lastAttemptAt: When it was tried last; null before.
lastDayToJoin: The last day on which learners may join.
lastError: The last error.
lastStatus: The last HTTP status.
lastSuccessAt: When a call succeeded last, to the minute; null if none did.
lastUsedAt: When it was last used; written every five minutes.
lastWatchedAt: The latest event of the chapter.
late: Whether it was late, or the number of late ones.
lateIsMissed: A late log counts as a missed one.
lateReason: Why it was not handed in in time.
lateSeconds: How late it fired, in seconds.
learnerPolicy: What a new version means for learners of older ones.
learnersDo: What the learners do.
leaseSeconds: How long a lease lasts.
lessonId: Id of the lesson.
lessonMinutes: Length of a lesson in minutes.
lessons: The lessons in order.
lessonsPerDay: Lessons of a day at most.
lessonsWithGaps: Number of lessons in which something is missing.
limits: Limits of the queue itself; null is none.
line: The line of the log.
listNumber: Number of the status list.
locale: Language, such as `en-GB`.
logId: Id of the activity log.
logs: Lines that the job logged.
logStatus: Whether the log is a draft or submitted; null if there is none.
logUrl: Where facilitators write their logs.
managerId: User id of the manager.
managers: User ids of the managers.
mandatory: It cannot be switched off.
materials: What is needed.
maxAttempts: Attempts at most.
maxScore: Points that can be reached.
mayWait: It may wait for the digest.
memoryMb: Memory of the processes in megabytes.
message: What happened, for people.
metadata: Data of the sender.
method: How it is done.
minutes: Length in minutes.
misconception: What learners may get wrong.
misconceptions: What learners may get wrong.
missed: Number of missed logs.
missing: Number of missing logs.
model: Name of the model.
moduleIndex: Position of the module, from 0.
modules: The modules in order.
modulesGenerated: Number of modules with lessons.
moved: Learners who would move to the new version.
moveOn: What satisfies the chapter.
n: How many are needed.
name: The name.
newerVersionAvailable: The course has a newer version than this attempt.
newlyComplete: Learners who would be complete.
nextAfter: `after` of the next page; null at the end.
nextAt: When it fires next.
nextAttemptAt: When it is tried next.
nextCursor: `cursor` of the next page; null at the end.
nextProbeAt: When the partner is tried next.
notBefore: Not sent before this time.
note: A note for people.
notes: Notes.
notificationId: Id of the message.
number: Which one it is, from 1.
occurredAt: When it happened, as sent.
of: Ids of the chapters that are meant; without them, the required ones.
offering: The offering.
offeringId: Id of the offering.
offeringTitle: Title of the offering.
olderThanSeconds: Only those that ended longer ago.
oldestWaitingSeconds: Age of the oldest waiting job in seconds.
openPlaces: Places that a person has to fill, or their number.
opensAt: When the week begins.
order: Position, from 1.
others: Who gets none, and why.
outcome: How it ended.
outcomeId: Id of the learning outcome.
outcomes: The learning outcomes.
outputTokens: Tokens of the answer.
outstandingSince: When the oldest completion was recorded whose step waits or failed.
parameter: Name of the parameter.
passed: An attempt has passed.
passThreshold: Score from 0 to 1 at which an attempt passes.
paused: It is paused.
perUserTime: Send at each person's local time.
phase: Phase of the lesson.
pid: Id of the process.
practice: Tasks with feedback.
preferences: How it is to be done.
present: Number of those who were present.
preview: What a run would do.
priceSource: Where the price is from.
priority: 1 to 10; 10 is the most urgent.
priorKnowledge: What learners know before.
processing: A job runs.
programme: The programme.
programmeId: Id of the programme.
programmeTitle: Title of the programme.
progress: Percent, 0 to 100, rounded down.
promptTokens: Input tokens.
provenance: Where it comes from.
publishedAt: When this version was published.
q: Text to search for.
quarantined: Number of events that are stored until their course exists.
question: The question.
questions: Number of questions.
queue: Name of the queue.
queueLength: Number of waiting jobs.
queues: Names of the queues.
queueSize: Number of events that wait for a commit.
quietHours: When nothing is sent.
quiz: The quiz; null where there is none.
quizPolicy: Which attempts of a quiz give its score.
rate: Jobs a second after an outage.
rateMax: The most jobs that start within the window.
rateWindowSeconds: Length of the window in seconds.
readAt: When it was read; null before.
reason: Why, in words or as a code.
reasonCode: Why, for programs.
receivedAt: When the server received it.
recordedAt: When it was recorded.
records: The rows by table.
redisLimits: Limits that another program has set in Redis; null: none.
references: Sources.
rejected: Number of events that will never count.
repeated: Number of those that were sent before.
replays: How often it was sent again.
requestId: Id of the request at the provider.
requests: Number of requests.
required: The course's percentage counts it.
requiredChapters: Number of chapters that the percentage counts.
resolvedAt: When it was no longer needed.
resources: What is used.
result: What the job returned.
retryAfterMs: Pause that the provider asked for, in milliseconds.
revision: Number of the revision.
revocationReason: Why it was revoked.
revokedAt: When it was revoked; null while it is valid.
roles: Names of roles.
rows: The rows, or their number.
rubric: Criteria with their levels.
ruleId: Id of the rule.
runAt: When the job may run.
schedule: Name of the schedule.
schemaVersion: Version of the form.
scope: What is suppressed.
score: Score from 0 to 1, or points of an attempt; null without one.
seconds: Time in seconds.
secret: The value is hidden.
sent: Number of sent ones.
seq: Position in the order of arrival.
shown: What is shown, line by line.
showsName: The credential's page shows the learner's name.
since: From this time on.
skipCode: Why the step was skipped, for programs.
skipReason: Why the step was skipped, for operators.
slot: The slot, with its time zone.
slotAt: The time of the slot.
slots: The latest slots.
sms: Telephone number.
spent: What the model calls used.
spoken: What the facilitator says.
start: The start.
startedAt: When it began.
starterQuiz: Questions at the beginning, on earlier outcomes.
startsOn: The first day.
startTime: Local time of the first lesson.
state: Its state.
stats: Numbers of the queue.
status: Its status.
step: Name of the step, such as `credential`.
steps: The steps that follow, with their status.
stretch: For those who need more.
subject: What it was done to.
suspendedAt: When the person was suspended; null: messages are sent.
submittedAt: When it was submitted.
success: The request was accepted.
supersededBy: Id of the record that took its place.
support: For those who need help.
targetWeek: The week that a reminder is about.
task: What learners do.
term: The term.
text: The text, for people.
ticket: The ticket; only this answer holds it.
timeSpent: Learning time in seconds.
timeZone: IANA time zone, such as `Europe/Berlin`.
title: The title.
token: The token.
topic: What the questions are about.
total: Number in all.
totalChapters: Number of chapters, optional ones too.
totalContactHours: Contact time in hours.
totalLessons: Number of lessons.
totalModules: Number of modules.
totals: The sums.
traceback: The traceback.
tries: The attempts to deliver it.
type: The type.
unaffected: Learners for whom nothing would change.
units: The units in order.
unknown: Learners whose address is not known.
unreadCount: Number of unread messages.
updatedAt: When it was last changed.
uptimeSeconds: Time since the start, in seconds.
url: Its address.
userId: The user's id at the platform.
value: The value; hidden for secrets.
version: Version of the course, from 1.
vocabulary: Terms to learn.
waiting: Number of waiting jobs.
waitingChildren: Number of jobs that wait for others.
waitingSteps: Number of steps that wait for it or run.
waitsFor: Ids of the jobs that it waits for.
week: ISO week, such as `2026-W48`.
weekdays: Days with lessons.
weeks: The weeks in order.
why: The reason.
worker: The worker that runs it.
workers: Number of workers.
workflowId: Id of the lesson plan.
written: What wrote it: a rule or a model.
"""
FIELD_TEXTS = dict(line.split(": ", 1) for line in _TEXTS.strip().splitlines())
"""Descriptions by the name of a field."""

_PARAMETERS = """
done: False leaves out completed jobs, true all others.
actor: Only what this user or API key did.
after: Only records after this position.
archived: List the archived courses instead of the others.
attempt: Number of the learner's attempt, from 1.
channel: Only this channel.
cursor: `nextCursor` of the page before.
format: The file format.
from: The first day or time.
groupId: Id of a group of people, such as a ward.
kinds: Only these kinds, separated by commas.
limit: Records of a page at most.
lessonId: Id of the lesson.
moduleId: Id of the module.
offeringId: Id of the offering.
outstanding: True: only what has no log; false: only the others.
provider: Name of the mail provider.
to: The last day or time.
token: The signed token of the link.
unread: Only unread messages.
type: The message type.
credentialId: Id of the credential.
dispatchId: Id of the dispatch.
DispatchDetail.message: The message as it is sent.
exemptionId: Id of the exemption.
keyId: Id of the API key.
logId: Id of the activity log.
overwriteEdits: Write lessons anew that a person has edited.
section: Only this section of the lesson, or this part; may be repeated.
fill: Have a language model write only what is empty.
Idempotency-Key: Makes the request safe to repeat: the same key is the same request.
If-None-Match: The ETag of an earlier answer; 304 if it is still current.
"""
PARAMETER_TEXTS = FIELD_TEXTS | dict(
    line.split(": ", 1) for line in _PARAMETERS.strip().splitlines()
)
"""Descriptions by the name of a parameter."""
