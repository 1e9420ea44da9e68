/**
 * Loaded before each test file of `make mutants`, and before whatever a test starts: Stryker itself only knows the test's own process.
 * Children inherit the active mutant, also where a test gives them an environment of its own; in the first run they leave what they have run
 * (their coverage) in a folder, which the test's process adds to its own.
 */
const { ChildProcess } = require('node:child_process');
const { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } = require('node:fs');
const { tmpdir } = require('node:os');
const { join } = require('node:path');

const MUTANT = '__STRYKER_ACTIVE_MUTANT__';
const FOLDER = 'MUTANTS_COVERAGE';
const SAVE_EVERY_MS = 100;
const { env } = process;

if (env[FOLDER]) {
  leaveCoverage(env[FOLDER]);
} else if (env.STRYKER_DRY_RUN === 'true') {
  const folder = mkdtempSync(join(tmpdir(), 'coverage-'));
  process.on('exit', () => collectCoverage(folder));
  passOn({ [FOLDER]: folder, NODE_OPTIONS: `--require ${__filename}` });
} else {
  passOn({ [MUTANT]: env[MUTANT] });
}

/** Gives `added` to every child, whatever its environment; options of Node.js are appended. */
function passOn(added) {
  const { spawn } = ChildProcess.prototype;
  ChildProcess.prototype.spawn = function spawnWithMutant(options) {
    const given = Object.fromEntries(options.envPairs.map(pair => [pair.split('=', 1)[0], pair]));
    for (const [name, value] of Object.entries(added))
      given[name] = name === 'NODE_OPTIONS' && given[name] ? `${given[name]} ${value}` : `${name}=${value}`;
    return spawn.call(this, { ...options, envPairs: Object.values(given) });
  };
}

function covered() {
  return globalThis.__stryker__?.mutantCoverage?.static ?? {};
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
    } catch {} // as another user
  };
  process.on('exit', save);
  setInterval(save, SAVE_EVERY_MS).unref();
}

function collectCoverage(folder) {
  globalThis.__stryker__.mutantCoverage ??= { static: {}, perTest: {} };
  const { static: own } = globalThis.__stryker__.mutantCoverage;
  for (const file of readdirSync(folder)) {
    const found = JSON.parse(readFileSync(join(folder, file), 'utf8'));
    for (const [mutant, hits] of Object.entries(found)) own[mutant] = (own[mutant] ?? 0) + hits;
  }
  rmSync(folder, { recursive: true, force: true });
}
