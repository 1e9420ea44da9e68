/**
 * Loaded before each test file of `make mutants`, and before whatever a test starts: Stryker itself only knows the test's own process.
 * Children inherit the active mutant, also where a test gives them an environment of its own; in the first run they leave what they have run
 * (their coverage) in a folder, which the test's process adds to its own.
 */
const childProcess = require('node:child_process');
const { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } = require('node:fs');
const { syncBuiltinESMExports } = require('node:module');
const { tmpdir } = require('node:os');
const { join } = require('node:path');

const MUTANT = '__STRYKER_ACTIVE_MUTANT__';
const FOLDER = 'MUTANTS_COVERAGE';
const SAVE_EVERY_MS = 100;
const { env } = process;
const isDryRun = env.STRYKER_DRY_RUN === 'true';

function covered() {
  return globalThis.__stryker__?.mutantCoverage?.static ?? {};
}

if (env[FOLDER]) {
  leaveCoverage(env[FOLDER]);
} else {
  const folder = isDryRun ? mkdtempSync(join(tmpdir(), 'coverage-')) : undefined;
  if (folder) process.on('exit', () => collectCoverage(folder));
  passOn(folder ? { [FOLDER]: folder, NODE_OPTIONS: `--require ${__filename}` } : { [MUTANT]: env[MUTANT] });
}

/** Gives `added` to every child whose environment is given; the others inherit it. */
function passOn(added) {
  for (const name of ['spawn', 'execFile', 'fork']) {
    const original = childProcess[name];
    childProcess[name] = Object.assign((file, ...rest) => {
      const options = rest.find(value => value?.constructor === Object);
      if (options?.env) options.env = { ...options.env, ...added, ...joined(options.env, added) };
      return original(file, ...rest);
    }, original);
  }
  syncBuiltinESMExports();
  Object.assign(env, added, joined(env, added));
}

function joined(given, added) {
  return added.NODE_OPTIONS && given.NODE_OPTIONS && { NODE_OPTIONS: `${given.NODE_OPTIONS} ${added.NODE_OPTIONS}` };
}

/** Also now and then: many end by SIGKILL. */
function leaveCoverage(folder) {
  let saved = 0;
  const save = () => {
    const count = Object.keys(covered()).length;
    if (count === saved) return;
    saved = count;
    try {
      mkdirSync(folder, { recursive: true });
      writeFileSync(join(folder, `${process.pid}.json`), JSON.stringify(covered()));
    } catch {} // in a container, or as another user
  };
  process.on('exit', save);
  setInterval(save, SAVE_EVERY_MS).unref();
}

function collectCoverage(folder) {
  globalThis.__stryker__.mutantCoverage ??= { static: {}, perTest: {} };
  for (const file of readdirSync(folder)) {
    const found = JSON.parse(readFileSync(join(folder, file), 'utf8'));
    for (const [mutant, hits] of Object.entries(found))
      globalThis.__stryker__.mutantCoverage.static[mutant] = (covered()[mutant] ?? 0) + hits;
  }
  rmSync(folder, { recursive: true, force: true });
}
