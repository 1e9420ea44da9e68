/**
 * Log lines for people: local time, level, event, then the fields. `bosun dev` leaves out what does not concern the app.
 */
import { styleText } from 'node:util';
import type { LogEventName } from '../protocol/log-events.ts';

const COLORS = { fatal: 'red', error: 'red', warn: 'yellow', info: 'green', debug: 'gray', trace: 'gray' } as const;

/** Formats a log line for people: time, level, event, then its fields. Returns other lines unchanged: an app may print JSON too. */
export function prettyLine(line: string, isColoured = true): string {
  const fields = parsed(line);
  if (!isKitLine(fields)) return line;
  const { level, time, event, msg, pid: _, err, stack: own, ...rest } = fields;
  const color = COLORS[level as keyof typeof COLORS];
  const padded = String(level).padEnd(5);
  const name = isColoured ? styleText(color, padded, { validateStream: false }) : padded;
  const trace = typeof err === 'object' && err !== null && 'stack' in err ? err.stack : own;
  // The stack of a hung worker is a list of frames.
  const lines = Array.isArray(trace) ? trace.map(frame => `    at ${frame}`) : [trace];
  const stack = trace === undefined ? '' : `\n${lines.join('\n')}`;
  const values = Object.entries(rest)
    .filter(([, value]) => typeof value !== 'string' || value === '' || !stack.includes(value))
    .flatMap(([field, value]) => formatField(field, value));
  const text = [event, msg, ...values].filter(part => part !== undefined).join(' ');
  // Text of apps and clients may contain terminal escapes; only a stack has several lines.
  const safe = `${text.replace(/\p{Cc}/gu, ' ')}${stack.replace(/[^\P{Cc}\n\t]/gu, ' ')}`;
  return `${localTime(String(time))} ${name} ${safe}\n`;
}

function localTime(iso: string): string {
  const at = new Date(iso);
  if (Number.isNaN(at.getTime())) return iso.slice(11, 23);
  const [hours, minutes, seconds] = [at.getHours(), at.getMinutes(), at.getSeconds()].map(part => String(part).padStart(2, '0'));
  return `${hours}:${minutes}:${seconds}.${String(at.getMilliseconds()).padStart(3, '0')}`;
}

/** Of the pool's own life: `dev.failed` has the errors, once each. */
const ROUTINE: ReadonlySet<unknown> = new Set<LogEventName>([
  'primary.start',
  'session.keys-generated',
  'admin.listening',
  'control.listening',
  'app.listening',
  'pool.ready',
  'pool.restart',
  'pool.restarted',
  'pool.restart-failed',
  'reload.refused',
  'worker.ready',
  'worker.failed',
  'worker.exit',
  'worker.uncaught-exception',
  'drain.waiting',
  'request.cut',
  'signal',
  'shutdown.drain',
  'shutdown.cut',
  'primary.exit',
]);

/** As prettyLine; empty for what the pool does by itself. */
export function developerLine(line: string, isColoured: boolean): string {
  const [, event] = /"event":"([^"]+)"/.exec(line) ?? [];
  return ROUTINE.has(event) && isKitLine(parsed(line)) ? '' : prettyLine(line, isColoured);
}

function parsed(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    return undefined;
  }
}

/** As name=value, for an object one per field. Nothing for null and empty lists. */
function formatField(name: string, value: unknown): string[] {
  if (value === null || (Array.isArray(value) && value.length === 0)) return [];
  if (typeof value !== 'object' || Array.isArray(value))
    return [`${name}=${typeof value === 'string' ? value : JSON.stringify(value)}`];
  return Object.entries(value).flatMap(([field, inner]) => formatField(`${name}.${field}`, inner));
}

function isKitLine(line: unknown): line is Record<string, unknown> {
  if (typeof line !== 'object' || line === null || !('level' in line && 'time' in line)) return false;
  return typeof line.level === 'string' && Object.hasOwn(COLORS, line.level) && typeof line.time === 'string';
}
