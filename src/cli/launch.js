#!/usr/bin/env node
/**
 * The `bosun` of package.json, for npx in a clone and in a project that has the kit as a dependency. npx runs it on whatever Node.js
 * the machine has; if that is too old for the kit, it starts the Node.js 26 among the packages. So it is plain JavaScript for
 * Node.js 20, and the one file that the package does not compile.
 */
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { constants } from 'node:os';
import { dirname, join } from 'node:path';
import { pathToFileURL } from 'node:url';

const NEEDED_NODE = 26;
const EX_CONFIG = 78;
/** The signals that the kit handles (docs/reference/signals.md). */
const FORWARDED = ['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGTTIN', 'SIGTTOU', 'SIGUSR2'];

const folder = dirname(createRequire(import.meta.url).resolve('../../package.json'));
const command = [join(folder, 'dist', 'cli', 'bosun.js'), join(folder, 'src', 'cli', 'bosun.ts')].findLast(existsSync);
const ownNode = packagedNode();

if (command === undefined)
  fail('this package holds no compiled code: pack it with "make package", or "npm pack --ignore-scripts=false"');
else if (Number.parseInt(process.versions.node, 10) >= NEEDED_NODE) await import(pathToFileURL(command).href);
else if (ownNode === undefined)
  fail(
    `Node.js ${NEEDED_NODE} or newer is needed, got ${process.version}, and there is none among the packages for ` +
      `${process.platform}-${process.arch}: install them without --omit=optional`,
  );
else runWith(ownNode, [command, ...process.argv.slice(2)]);

/** The Node.js among the optional dependencies, if this platform has one. */
function packagedNode() {
  const { resolve } = createRequire(import.meta.url);
  for (const name of ['node', 'node-bin']) {
    try {
      return join(dirname(resolve(`${name}-${process.platform}-${process.arch}/package.json`)), 'bin', 'node');
    } catch {
      // not by this name, or left out
    }
  }
  return undefined;
}

function runWith(node, args) {
  // Replaces this process (Node.js 22.15 and newer): one process fewer, and signals and exit codes need no forwarding.
  if (process.execve !== undefined) process.execve(node, [node, ...args], process.env);
  const child = spawn(node, args, { stdio: 'inherit' });
  // The child then gets Ctrl-C twice, from the terminal and from here; it counts them as one (signals.ts).
  for (const signal of FORWARDED) process.on(signal, () => child.kill(signal));
  child.once('exit', (code, signal) => process.exit(code ?? 128 + constants.signals[signal ?? 'SIGKILL']));
}

function fail(message) {
  process.stderr.write(`bosun: ${message}\n`);
  process.exitCode = EX_CONFIG;
}
