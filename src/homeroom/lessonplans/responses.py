"""JSON responses about a plan, for the HTTP API and the command line (camelCase)."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, PlainSerializer
from pydantic.alias_generators import to_camel

from homeroom.instant import to_rfc3339
from homeroom.lessonplans.api import GenerationStart
from homeroom.lessonplans.curriculum import Curriculum, contact_hours, dump_curriculum
from homeroom.lessonplans.model.call_store import ModelCallRow
from homeroom.lessonplans.plan import LessonPlan, PlanKind, PlanStatus
from homeroom.lessonplans.plan_queries import GenerationStatus

MICRO_UNITS = 1_000_000
Instant = Annotated[int, PlainSerializer(to_rfc3339, return_type=str)]


class CamelCaseModel(BaseModel):
    """A part of a response, with camelCase keys."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)


class WorkflowView(Curriculum):
    """The curriculum of a plan, with all its defaults."""

    workflow_id: str
    status: PlanStatus


class GenerationStartView(CamelCaseModel):
    """The result of a start: at most one job is queued, the others follow."""

    workflow_id: str
    jobs_queued: int
    modules_generated: int
    total_modules: int
    estimated_time_minutes: int


class ModelSpendingView(CamelCaseModel):
    """The use of a language model; `cost` is null if no price is known."""

    requests: int
    prompt_tokens: int
    completion_tokens: int
    cost: float | None
    currency: str | None
    cost_complete: bool


class ModuleJob(CamelCaseModel):
    """A module's job; `progress` is the percentage of the module's minutes."""

    job_id: str
    module_index: int
    state: str
    progress: float
    attempts_made: int
    failed_reason: str | None


class ModuleJobs(CamelCaseModel):
    """The modules' jobs, one per module, in order."""

    total: int
    active: int
    completed: int
    failed: int
    details: list[ModuleJob]


class GenerationStatusView(CamelCaseModel):
    """The generation status of a plan."""

    workflow_id: str
    status: PlanStatus
    modules_generated: int
    total_modules: int
    all_complete: bool
    total_lessons: int
    total_contact_hours: float
    lessons_with_gaps: int
    kind: PlanKind
    open_places: int
    progress: float
    estimated_time_remaining_seconds: int | None
    heartbeat_at: Instant | None
    spent: ModelSpendingView
    jobs: ModuleJobs


class ModelCallView(CamelCaseModel):
    """One HTTP attempt at a language model."""

    id: str
    lesson_id: str
    job_id: str
    model: str
    outcome: str
    http_status: int | None
    retry_after_ms: int | None
    input_tokens: int | None
    output_tokens: int | None
    cost: float | None
    currency: str
    price_source: str | None
    request_id: str | None
    started_at: Instant
    finished_at: Instant | None


def curriculum_view(plan: LessonPlan) -> dict[str, Any]:
    """Return the curriculum of a plan as JSON, in the form of ``WorkflowView``."""
    return {"workflowId": plan.id, "status": plan.status, **dump_curriculum(plan.curriculum)}


def start_message(start: GenerationStart) -> str:
    """Return a sentence about the result of a start."""
    if start.jobs_queued and not start.is_whole_plan:
        return "Generation of this module started. No other module follows."
    if start.jobs_queued:
        return "Generation started. Each module queues the next one when it is complete."
    if start.modules_generated == start.total_modules:
        return "All modules are generated already. No job was queued."
    return "Generation is running already. No job was queued."


def generation_start_view(start: GenerationStart) -> GenerationStartView:
    """Return the response to a start."""
    return GenerationStartView(
        workflow_id=start.plan_id,
        jobs_queued=start.jobs_queued,
        modules_generated=start.modules_generated,
        total_modules=start.total_modules,
        estimated_time_minutes=start.estimated_minutes,
    )


def generation_status_view(status: GenerationStatus) -> GenerationStatusView:
    """Return the generation status of a plan as a response."""
    jobs = [
        ModuleJob(
            job_id=each.job.id,
            module_index=each.module.idx,
            state=each.job.state.value,
            progress=each.percent,
            attempts_made=each.job.attempts,
            failed_reason=each.module.error or each.job.last_error,
        )
        for each in status.modules
    ]
    states = [job.state for job in jobs]
    spent = status.spent
    return GenerationStatusView(
        workflow_id=status.plan.id,
        status=status.status,
        modules_generated=status.modules_generated,
        total_modules=status.total_modules,
        all_complete=status.all_complete,
        total_lessons=status.lessons,
        total_contact_hours=contact_hours(status.minutes),
        lessons_with_gaps=status.lessons_with_gaps,
        kind=status.kind,
        open_places=status.open_places,
        progress=status.progress.percent,
        estimated_time_remaining_seconds=status.progress.seconds_left,
        heartbeat_at=status.heartbeat_at,
        spent=ModelSpendingView(
            requests=spent.requests,
            prompt_tokens=spent.input_tokens,
            completion_tokens=spent.output_tokens,
            cost=None if spent.cost is None else spent.cost / MICRO_UNITS,
            currency=spent.currency,
            cost_complete=spent.cost_complete,
        ),
        jobs=ModuleJobs(
            total=len(jobs),
            active=states.count("active"),
            completed=states.count("completed"),
            failed=states.count("failed"),
            details=jobs,
        ),
    )


def model_call_view(row: ModelCallRow) -> ModelCallView:
    """Return one HTTP attempt as a response."""
    values: dict[str, Any] = {name: getattr(row, name) for name in ModelCallView.model_fields}
    return ModelCallView(**{**values, "cost": None if row.cost is None else row.cost / MICRO_UNITS})


LESSON_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["id", "number", "title", "durationMinutes", "outcomes", "written", "gaps"],
    "properties": {
        "id": {"type": "string"},
        "number": {"type": "string", "description": "Module and lesson, from 1: 2.1."},
        "order": {"type": "integer"},
        "week": {"type": "integer"},
        "title": {"type": "string"},
        "durationMinutes": {"type": "integer"},
        "deliveryMode": {"type": "string"},
        "outcomes": {"type": "array", "items": {"type": "object"}},
        "written": {"type": "boolean"},
        "generator": {"type": ["string", "null"], "description": "rule-based, or the model."},
        "edited": {"type": "boolean"},
        "editedParts": {
            "type": "array",
            "description": "Parts that a person has edited; regeneration of a section keeps them.",
            "items": {"type": "string"},
        },
        "revision": {"type": "integer"},
        "gaps": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["code", "message"],
                "properties": {
                    "code": {"type": "string"},
                    "message": {"type": "string"},
                    "field": {"type": "string", "description": "The part that has the gap."},
                },
            },
        },
        "stage": {
            "type": "string",
            "description": "Purpose of the lesson, such as model, guided or review.",
        },
        "retrieves": {
            "type": "array",
            "description": "Outcomes of earlier lessons that it begins with.",
            "items": {"type": "object"},
        },
        "openPlaces": {
            "type": "array",
            "description": "What a person still has to fill in.",
            "items": {
                "type": "object",
                "required": ["field", "asks"],
                "properties": {"field": {"type": "string"}, "asks": {"type": "string"}},
            },
        },
        "explanation": {"type": "object"},
        "activities": {"type": "array", "items": {"type": "object"}},
        "checks": {"type": "array", "items": {"type": "object"}},
        "practice": {"type": "array", "items": {"type": "object"}},
        "starterQuiz": {"type": "array", "items": {"type": "object"}},
        "exitQuiz": {"type": "array", "items": {"type": "object"}},
        "assessments": {"type": "array", "items": {"type": "object"}},
        "provenance": {"type": "object"},
    },
}
PLAN_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": [
        *("workflowId", "schemaVersion", "title", "status", "kind"),
        *("totals", "modules", "gaps", "openPlaces"),
    ],
    "properties": {
        "workflowId": {"type": "string"},
        "schemaVersion": {"type": "integer"},
        "title": {"type": "string"},
        "courseId": {"type": ["string", "null"]},
        "locale": {"type": "string"},
        "status": {"type": "string"},
        "kind": {
            "type": "string",
            "enum": ["outline", "plan"],
            "description": "outline while a lesson is not written or a place is open.",
        },
        "openPlaces": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["lessonId", "number", "field", "asks"],
                "properties": {
                    "lessonId": {"type": "string"},
                    "number": {"type": "string"},
                    "field": {"type": "string"},
                    "asks": {"type": "string"},
                },
            },
        },
        "generator": {"type": ["string", "null"]},
        "totals": {"type": "object"},
        "modules": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["id", "title", "contactHours", "lessons"],
                "properties": {
                    "id": {"type": "string"},
                    "title": {"type": "string"},
                    "contactHours": {"type": "number", "description": "Contact time in hours."},
                    "lessons": {"type": "array", "items": LESSON_SCHEMA},
                },
            },
        },
        "coverage": {"type": "array", "items": {"type": "object"}},
        "gaps": {"type": "array", "items": {"type": "object"}},
        "provenance": {"type": "object"},
    },
}
