/**
 * What `bosun help COMMAND` prints below the options of a command, in lines of at most 80 characters. docs/reference/cli.md shows it too.
 */
import { POLICIES } from '../config/variables.ts';

export const DETAILS: Readonly<Record<string, string>> = {
  dev: `Watches the files that the app loads (not node_modules), .env and package.json.
The old workers go on serving until the new ones do. --inspect takes its value
after "=": --inspect=0.0.0.0:9229. With --json it logs JSON lines.`,
  status: `While a worker drains: also what it waits for. With --watch: also requests per
second, CPU with throttling, memory, and the lifecycle events, newest first,
within 80 columns and 24 rows.`,
  errors: `Shows time, status, method, path, route, worker and trace id of each request
that was answered with 5xx, or whose answer an error has interrupted; then the
error and the first line of its stack. Also errors that have ended a worker.`,
  fleet: `Shows version, state, workers, requests and errors per second, and p99 of each
pod. Pods report once a second.`,
  leader: `Prints the worker, its pod, since when, and its token. --release aborts the
signal of the leader, in whichever pod it is, and waits until another worker
leads. Its start function has 10 s to end. That worker does not try to lead again
for 5 s.`,
  logs: `The primary keeps the last 10,000 lines, at most 1 MiB of them, also those that
its own output has dropped. On a terminal they are formatted for people, else as
they were written. With --json every line is a JSON object: output that is none is
the "text" of one with "time", "worker" and "stream". A reader that is too slow
gets the number of the lines that it has missed.`,
  doctor: 'Checks the grace period, the file limit, sizes, Redis and session keys.',
  restart: 'Prints each step. If a new worker does not start, the old ones keep serving.',
  scale: `New workers start a few at a time. If one fails to start, the pool returns to
its previous size. More workers than memory allows with a workable heap
(64 MiB each) need --force.`,
  cordon: 'It keeps its open connections. "bosun uncordon" is the opposite.',
  policy: `NAME is ${POLICIES.join(', ')}.
From or to reuseport, start the primary again.`,
  broadcast: 'The data is JSON of at most 256 KiB; without it, null is sent.',
  keys: `For keys that the kit has generated and keeps in Redis. First every worker of
every pod verifies with the new key; 5 s later they sign with it.`,
  service: `For pods with SERVICE_NAME_BEFORE. It copies every session to the names
of SERVICE_NAME, moves reads there, stops writes to the old names, and deletes
those. Every pod confirms each step. It cannot be undone.`,
  'heap-snapshot': `Without --worker, of the worker with the largest heap. Without --output, into
DIAGNOSTICS_DIR. An existing file is not overwritten. Refused if memory or disk
is short.`,
  'cpu-profile': `Takes 10 s, or --seconds, at most 300. Without --worker, of the worker with the
largest heap. Without --output, into DIAGNOSTICS_DIR.`,
};
