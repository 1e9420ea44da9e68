/**
 * The commands of the control socket as JSON: what each one takes and returns, declared once for the primary and for `bosun`.
 */
import type { Policy } from '../config/config.ts';
import type { Peer, Sample, ShownEvent, Status, WorkerState } from './api.ts';
import type { WorkerError } from './error-status.ts';
import type { LeaderStatus } from './leader.ts';

/** A finding of `bosun doctor`. */
export interface Finding {
  check: string;
  verdict: 'ok' | 'warning' | 'problem';
  detail: string;
}

interface DiagnosisFile {
  worker: number;
  file: string;
}

/** The commands of the control socket: what each one takes and returns. With `stream`, a diagnosis answers with bytes instead. */
export interface Commands {
  status: (parameters?: object) => Status;
  /** The last samples and events, the newest last. */
  watch: (parameters?: object) => { status: Status; samples: readonly Sample[]; events: readonly ShownEvent[] };
  restart: (parameters: { worker?: number | undefined }) => { generation: number };
  scale: (parameters: { workers: string; force?: boolean | undefined }) => {
    workers: number;
    reason: string;
    warnings?: string[];
  };
  cordon: (parameters: { worker: number }) => { worker: number; state: WorkerState };
  uncordon: (parameters: { worker: number }) => { worker: number; state: WorkerState };
  policy: (parameters: { name: string }) => { policy: Policy };
  /** `otherPods` is missing without Redis; `later`: Redis is unavailable, and the event is stored. */
  broadcast: (parameters: { event: string; data?: unknown }) => {
    workers: number;
    otherPods?: 'sent' | 'later' | 'never' | undefined;
  };
  /** The last request errors, the newest last. */
  errors: (parameters?: object) => { errors: readonly WorkerError[] };
  fleet: (parameters?: object) => { pods: readonly Peer[] };
  /** With `release` the holder gives up; answers once another worker leads, or nobody has taken over for a while. */
  leader: (parameters: { name: string; release?: boolean | undefined }) => { name: string } & LeaderStatus;
  'rotate-keys': (parameters?: object) => { keys: number };
  /** `sessions` is how many have been copied. */
  'migrate-service': (parameters: { keep?: boolean | undefined }) => { service: string; sessions: number };
  'heap-snapshot': (parameters: { worker?: number | undefined; output?: string | undefined }) => DiagnosisFile;
  'cpu-profile': (parameters: {
    worker?: number | undefined;
    output?: string | undefined;
    seconds?: number | undefined;
  }) => DiagnosisFile;
  doctor: (parameters?: object) => Finding[];
  /** Its answer has a line per part of the log (AnswerLine). */
  logs: (parameters: { worker?: number | undefined; lines?: number | undefined; follow?: boolean | undefined }) => null;
}
export type CommandName = keyof Commands;
export type ParametersOf<Name extends CommandName> = NonNullable<Parameters<Commands[Name]>[0]>;
export type ResultOf<Name extends CommandName> = ReturnType<Commands[Name]>;

/** Log lines that were written together, each with its newline, or how many are missing here, since the reader was too slow. */
export type LogPart = WrittenLines | { dropped: number };

export interface WrittenLines {
  /** Milliseconds since 1970. */
  at: number;
  /** The worker that wrote them, or that a line of the primary is about. */
  worker?: number | undefined;
  stream: 'stdout' | 'stderr';
  text: string;
}

/** A line of the answer to a command: steps or parts of the log, then the result or an error. `status` is HTTP's. */
export type AnswerLine = { step: string } | { log: LogPart } | { result: unknown } | { error: string; status: number };
