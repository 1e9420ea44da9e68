/**
 * A log line for people: time, level, event, then its fields. Pure.
 */
import { styleText } from 'node:util';

const COLORS = { fatal: 'red', error: 'red', warn: 'yellow', info: 'green', debug: 'gray', trace: 'gray' } as const;

/** Returns a line unchanged if it is not one of the kit's: an app may print JSON too. */
export function prettyLine(line: string): string {
  let fields: unknown;
  try {
    fields = JSON.parse(line);
  } catch {
    return line;
  }
  if (!isKitLine(fields)) return line;
  const { level, time, event, msg, pid: _, err, stack: own, ...rest } = fields;
  const color = COLORS[level as keyof typeof COLORS];
  const name = styleText(color, String(level).padEnd(5), { validateStream: false });
  const trace = typeof err === 'object' && err !== null && 'stack' in err ? err.stack : own;
  // That of a hung worker is a list of frames.
  const lines = Array.isArray(trace) ? trace.map(frame => `    at ${frame}`) : [trace];
  const stack = trace === undefined ? '' : `\n${lines.join('\n')}`;
  const values = Object.entries(rest)
    .filter(([, value]) => typeof value !== 'string' || value === '' || !stack.includes(value))
    .flatMap(([field, value]) => shown(field, value));
  const said = [event, msg, ...values].filter(part => part !== undefined).join(' ');
  // What an app or a client says may hold what moves a cursor; only a stack has lines.
  const harmless = `${said.replace(/\p{Cc}/gu, ' ')}${stack.replace(/[^\P{Cc}\n\t]/gu, ' ')}`;
  return `${String(time).slice(11, 23)} ${name} ${harmless}\n`;
}

/** As name=value; of an object each field. What is null or an empty list says nothing. */
function shown(name: string, value: unknown): string[] {
  if (value === null || (Array.isArray(value) && value.length === 0)) return [];
  if (typeof value !== 'object' || Array.isArray(value))
    return [`${name}=${typeof value === 'string' ? value : JSON.stringify(value)}`];
  return Object.entries(value).flatMap(([field, inner]) => shown(`${name}.${field}`, inner));
}

function isKitLine(line: unknown): line is Record<string, unknown> {
  if (typeof line !== 'object' || line === null || !('level' in line && 'time' in line)) return false;
  return typeof line.level === 'string' && Object.hasOwn(COLORS, line.level) && typeof line.time === 'string';
}
