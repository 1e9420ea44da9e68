/**
 * Which server of an app is served.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Decision, decide, type Kind, type Situation } from '../src/worker/adopt-rules.ts';

/** PORT is 3000, ADMIN_PORT 9090, and nothing listens yet. */
const SET: Situation = { port: 3000, isPortKnown: true, isPortHeld: true, adminPort: 9090, role: undefined, isDecided: false };
const UNSET: Situation = { ...SET, isPortKnown: false };

const CASES: [string, Kind, number, Situation, Decision][] = [
  ['the server on PORT is served', 'http', 3000, SET, 'serve'],
  ['one of https, too', 'https', 3000, SET, 'serve'],
  ['it replaces the first one', 'http', 3000, { ...SET, role: 'first' }, 'serve'],
  ['it takes over from the export', 'http', 3000, { ...SET, role: 'export', isDecided: true }, 'serve'],
  ['HTTP/2 is refused', 'http2', 3000, SET, 'refuse'],
  ['a probe for a free port is ignored', 'tcp', 3000, SET, 'ignore'],
  ['a second one on PORT is ignored', 'http', 3000, { ...SET, role: 'port', isDecided: true }, 'ignore'],
  ['with PORT=0 a second one has its own port', 'http', 0, { ...SET, port: 0, role: 'port' }, 'own'],
  ['so has one that listens while the worker serves', 'http', 0, { ...SET, port: 0, role: 'export', isDecided: true }, 'own'],
  ['so has a server of TCP', 'tcp', 0, { ...SET, port: 0 }, 'own'],
  ['and one of HTTP/2', 'http2', 0, { ...SET, port: 0, role: 'export', isDecided: true }, 'own'],
  ['the default port is served without PORT', 'http', 3000, UNSET, 'serve'],
  ['a default port of another process is requested again', 'http', 3000, { ...UNSET, isPortHeld: false }, 'name-port'],
  ['without PORT the first server names it', 'http', 8080, UNSET, 'name-port'],
  ['but not one on any port', 'http', 0, UNSET, 'try'],
  ['nor one on ADMIN_PORT', 'http', 9090, UNSET, 'try'],
  ['any port is no answer where none is held', 'http', 0, { ...UNSET, isPortHeld: false }, 'name-port'],
  ['with PORT the first server is tried', 'http', 8080, SET, 'try'],
  ['the second one is the own of the app', 'http', 8081, { ...SET, role: 'first' }, 'own'],
  ['so is the first one once another is served', 'http', 8080, { ...SET, isDecided: true }, 'own'],
  ['a server of TCP or gRPC is the own of the app', 'tcp', 5000, SET, 'own'],
  ['without PORT, too', 'http2', 50051, UNSET, 'own'],
  ['ADMIN_PORT is the kit', 'http', 9090, { ...SET, role: 'port' }, 'admin'],
  ['for TCP as well', 'tcp', 9090, SET, 'admin'],
  ['a pool without an admin port leaves 0 to the app', 'http', 0, { ...SET, adminPort: 0, role: 'port' }, 'own'],
];

for (const [name, kind, port, situation, expected] of CASES)
  test(`${name}: ${kind} on ${port}`, () => assert.equal(decide({ kind, port }, situation), expected));
