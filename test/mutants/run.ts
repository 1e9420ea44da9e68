/**
 * Mutation testing with Stryker (make mutants): which small changes of the sources does no test see?
 * Only the unit tests run that import a changed file, themselves or through others, and the test files that TESTS names.
 * FILES, TESTS, SAMPLE, SEED and CONCURRENCY are read from the environment.
 */
import { existsSync, globSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { Stryker } from '@stryker-mutator/core';
import { seededRandom } from '../random.ts';

const ROOT = join(import.meta.dirname, '..', '..');
const FORKS = join(import.meta.dirname, 'forks.cjs');
const MUTATED = ['src/pool/*.ts', 'src/balancing/*.ts', 'src/state/*.ts', 'src/worker/server.ts', 'src/worker/connections.ts'];

const words = (text: string | undefined) => text?.split(/[\s,]+/).filter(Boolean) ?? [];

/** The files of `tests` that import one of `sources`, themselves or through others. */
function testsOf(tests: string[], sources: Set<string>): string[] {
  const reached = new Map<string, boolean>();
  const reaches = (file: string): boolean => {
    const known = reached.get(file) ?? (existsSync(join(ROOT, file)) ? undefined : false); // an import in the text of a test
    if (known !== undefined) return known;
    reached.set(file, sources.has(file));
    const imports = [...readFileSync(join(ROOT, file), 'utf8').matchAll(/(?:from|import)\s*\(?'(\.[^']+\.ts)'/g)];
    const reachesOne = sources.has(file) || imports.some(([, path]) => reaches(join(dirname(file), path ?? '')));
    reached.set(file, reachesOne);
    return reachesOne;
  };
  return tests.filter(reaches);
}

/** `file:line-line` for `count` random lines of `sources`. */
function sampleOf(sources: string[], count: number): string[] {
  const seed = Number(process.env.SEED ?? Date.now() % 1_000_000);
  console.log(`a sample of ${count} lines, SEED=${seed}`);
  const random = seededRandom(seed);
  const lines = sources.flatMap(file => {
    const text = readFileSync(join(ROOT, file), 'utf8').split('\n');
    return text.flatMap((line, index) =>
      /^\s*(\/?\*|\/\/|import\b|\}?[;)]*$)/.test(line) ? [] : [`${file}:${index + 1}-${index + 1}`],
    );
  });
  return Array.from({ length: Math.min(count, lines.length) }, () => lines.splice(Math.floor(random() * lines.length), 1)).flat();
}

/** Ends processes that run files below `folder`: what a test has started that was itself ended for its time. */
function killFrom(folder: string, { orphans = false } = {}): void {
  for (const pid of readdirSync('/proc').filter(name => /^\d+$/.test(name))) {
    try {
      const isFrom = readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(`${folder}/`);
      const parent = /^\d+ \(.*\) \S (\d+)/s.exec(readFileSync(`/proc/${pid}/stat`, 'utf8'))?.[1];
      if (isFrom && (!orphans || parent === '1')) process.kill(Number(pid), 'SIGKILL');
    } catch {} // it has ended
  }
}

const sources = globSync(words(process.env.FILES).length > 0 ? words(process.env.FILES) : MUTATED, { cwd: ROOT })
  .filter(file => !file.endsWith('.d.ts'))
  .sort();
// It signals its own process, which Stryker takes for a crash.
const unit = globSync('test/*.test.ts', { cwd: ROOT, exclude: ['test/signals.test.ts'] }).sort();
const tests = [...new Set([...testsOf(unit, new Set(sources)), ...words(process.env.TESTS)])];
if (sources.length === 0 || tests.length === 0) {
  console.error(sources.length === 0 ? 'no such file: FILES' : 'no unit test imports these files: name others with TESTS');
  process.exit(64);
}
console.log(`${sources.length} files, ${tests.length} test files:\n  ${tests.join('\n  ')}`);

// The tests run with the Node.js that runs this, in a copy of the tree: Node.js strips no types below node_modules.
process.env.PATH = [dirname(process.execPath), process.env.PATH].join(delimiter);
process.chdir(ROOT);
const copy = mkdtempSync(join(tmpdir(), 'mutants-'));
process.env.NODE_COMPILE_CACHE = join(copy, 'compiled');
const sweeping = setInterval(() => killFrom(copy, { orphans: true }), 5000);
try {
  await new Stryker({
    testRunner: 'tap',
    plugins: ['@stryker-mutator/tap-runner'],
    tap: {
      testFiles: tests,
      forceBail: false,
      nodeArgs: ['-r', FORKS, '-r', '{{hookFile}}', '--test-reporter=tap', '{{testFile}}'],
    },
    mutate: process.env.SAMPLE ? sampleOf(sources, Number(process.env.SAMPLE)) : sources,
    mutator: { excludedMutations: ['StringLiteral'] },
    concurrency: Number(process.env.CONCURRENCY ?? 1),
    coverageAnalysis: 'perTest',
    timeoutMS: 10_000,
    reporters: ['clear-text', 'html', process.stdout.isTTY ? 'progress' : 'progress-append-only'],
    clearTextReporter: { allowColor: process.stdout.isTTY, logTests: false, reportTests: false, allowEmojis: false },
    htmlReporter: { fileName: 'test/output/mutants.html' },
    // Stryker's own handling of tsconfig.json needs an older TypeScript; nothing here needs it.
    tsconfigFile: 'none.json',
    ignorePatterns: ['/dist', '/loadtest', '/test/output', '/docs/pictures'],
    tempDirName: copy,
    logLevel: 'warn',
    allowEmpty: true,
  } as ConstructorParameters<typeof Stryker>[0]).runMutationTest();
} finally {
  clearInterval(sweeping);
  killFrom(copy);
  rmSync(copy, { recursive: true, force: true });
}
console.log('the same with the sources: test/output/mutants.html');
