#!/usr/bin/env node
/**
 * The `bosun` of package.json, for npx in a clone and in a project that has the kit as a dependency. npx runs it on whatever Node.js
 * the machine has; if that is too old for the kit, it starts the Node.js 26 among the packages: a clone has one, a project may add it. So it is
 * plain JavaScript for Node.js 20, and the one file that the package does not compile.
 */
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { constants } from 'node:os';
import { dirname, join } from 'node:path';
import { pathToFileURL } from 'node:url';

/** What the compiled code needs (docs/guide/adopt.md, "Node.js versions"); the sources of a clone run on the Node.js that its tests run on. */
const NEEDED_NODE = { compiled: [22, 18], sources: [26, 0] };
const EX_CONFIG = 78;
/** A package that is a Node.js and nothing else. */
const NODE_PACKAGE = `${process.platform === 'darwin' && process.arch === 'arm64' ? 'node-bin' : 'node'}-${process.platform}-${process.arch}`;
/** The signals that the kit handles (docs/reference/signals.md). */
const FORWARDED = ['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGTTIN', 'SIGTTOU', 'SIGUSR2'];

const folder = dirname(createRequire(import.meta.url).resolve('../../package.json'));
const compiled = join(folder, 'dist', 'cli', 'bosun.js');
const source = join(folder, 'src', 'cli', 'bosun.ts');
const [command, needed] = existsSync(source) ? [source, NEEDED_NODE.sources] : [compiled, NEEDED_NODE.compiled];
const ownNode = packagedNode();

if (!existsSync(command))
  fail('this package holds no compiled code: pack it with "make package", or "npm pack --ignore-scripts=false"');
else if (isAtLeast(process.versions.node, needed)) await import(pathToFileURL(command).href);
else if (ownNode === undefined)
  fail(
    `Node.js ${needed.join('.')} or newer is needed, got ${process.version}. Update it, or add one on this machine: ` +
      `npm install --no-save ${NODE_PACKAGE}@${NEEDED_NODE.sources[0]}`,
  );
else runWith(ownNode, [command, ...process.argv.slice(2)]);

function isAtLeast(version, [major, minor]) {
  const [ours, oursMinor] = version.split('.').map(Number);
  return ours > major || (ours === major && oursMinor >= minor);
}

/** The Node.js among the packages, if there is one for this platform. */
function packagedNode() {
  try {
    return join(dirname(createRequire(import.meta.url).resolve(`${NODE_PACKAGE}/package.json`)), 'bin', 'node');
  } catch {
    return undefined;
  }
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
