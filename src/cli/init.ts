/**
 * `bosun init` and `bosun upgrade --check`: the questions, and what a person is shown. What is written follows from src/init.
 */
import { join } from 'node:path';
import { createInterface } from 'node:readline/promises';
import { createTwoFilesPatch, FILE_HEADERS_ONLY } from 'diff';
import { type Choices, DetectError, detect, isPort, nameOf, type Project } from '../init/detect.ts';
import { filesIn } from '../init/files.ts';
import { locate } from '../init/location.ts';
import { below } from '../init/package-json.ts';
import { plan } from '../init/plan.ts';
import { bodyOf, hashOf, type InitRecord, RECORD, readRecord, recordText, STATES } from '../init/record.ts';
import { type Step, steps, write } from '../init/write.ts';
import { CliExitCode } from '../protocol/exit.ts';
import { CommandError } from './client.ts';
import { notesOf, summaryOf } from './init-notes.ts';

export interface InitOptions extends Choices {
  yes?: true;
  force?: true;
  dryRun?: true;
  json?: true;
  helm?: true;
}

const KIT_FOLDER = join(import.meta.dirname, '..', '..');

/** Writes what a container, a cluster and CI need into the repository of the working directory. @throws CommandError */
export async function init(options: InitOptions): Promise<void> {
  const { root, project, record, planned } = await prepared(options, options.yes !== true && options.dryRun !== true);
  const all = steps(planned, filesIn(root), record.hashes, options.force === true);
  const written = all.filter(step => step.isWritten);
  if (options.dryRun) {
    print(written.map(patchOf).join(''));
    for (const step of kept(all)) process.stderr.write(`bosun: ${keptLine(step)}\n`);
    return;
  }
  if (options.json !== true) print([...summaryOf(project), ...all.map(lineOf)].join('\n'));
  if (written.length > 0 && isInteractive(options) && !(await confirmed(written.length)))
    throw new CommandError('nothing is written');
  for (const step of written) write(root, step);
  writeRecord(root, project, record, all);
  if (options.json) print(JSON.stringify({ written: written.map(pathOf), kept: kept(all).map(pathOf) }));
  else print(['', ...notesOf(project, kept(all).length > 0)].join('\n'));
}

/** Compares what `bosun init` wrote with what it would write today. The exit code is 1 if anything differs. @throws CommandError */
export async function upgradeCheck({ json }: { json?: true }): Promise<void> {
  const { root, record, planned } = await prepared({}, false);
  if (Object.keys(record.hashes).length === 0)
    throw new CommandError(
      `upgrade --check compares what bosun init wrote, found no ${RECORD} in ${process.cwd()}`,
      CliExitCode.badConfig,
    );
  const different = steps(planned, filesIn(root), record.hashes, true).filter(
    ({ state }) => state !== 'same' && state !== 'foreign',
  );
  if (json) print(JSON.stringify({ differences: different.map(step => ({ path: pathOf(step), state: step.state })) }));
  else if (different.length === 0) print('every file is as bosun init would write it');
  else
    print(
      different
        .map(step => `${pathOf(step)} ${step.state === 'new' ? 'is missing' : STATES[step.state]}\n${patchOf(step)}`)
        .join('\n'),
    );
  if (different.length > 0) process.exitCode = CliExitCode.failed;
}

interface Prepared {
  root: string;
  project: Project;
  record: InitRecord;
  planned: ReturnType<typeof plan>;
}

async function prepared(options: InitOptions, mayAnswer: boolean): Promise<Prepared> {
  try {
    const { root, folder } = locate(process.cwd(), KIT_FOLDER);
    const files = filesIn(root);
    const record = readRecord(filesIn(join(root, folder)));
    const given: Choices = { ...record.choices, ...chosen(options), ...(options.helm && { chart: true }) };
    const isFirst = Object.keys(record.hashes).length === 0;
    const project = detect(
      files,
      folder,
      mayAnswer && isFirst && isInteractive(options) ? await answered(given, files, folder) : given,
    );
    const { name, image, port, redis, entry, namespace, components, chart } = project;
    const choices = { name, image, module: entry.module, port, redis, namespace, components, ...(chart && { chart }) };
    return { root, project, record: { ...record, choices }, planned: plan(project, files) };
  } catch (error) {
    throw error instanceof CommandError ? error : new CommandError((error as Error).message, CliExitCode.badConfig);
  }
}

/** What the command line names. @throws CommandError */
function chosen({ name, image, module, port, redis, namespace, components }: InitOptions): Choices {
  if (name !== undefined && nameOf(name) !== name)
    throw new CommandError(`--name must be lower-case letters, digits and "-", at most 40, got "${name}"`, CliExitCode.usage);
  if (port !== undefined && !isPort(port))
    throw new CommandError(`--port must be from 1024 to 65535, and not 9090, got "${port}"`, CliExitCode.usage);
  const given = { name, image, module, port, redis, namespace, components };
  return Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
}

const isInteractive = ({ yes, json }: InitOptions) =>
  yes !== true && json !== true && process.stdin.isTTY === true && process.stdout.isTTY === true;

/** Two questions, of which each has an answer already; the third is whether to write. */
async function answered(given: Choices, files: ReturnType<typeof filesIn>, folder: string): Promise<Choices> {
  const found = detectedOrUndefined(given, files, folder);
  const module = given.module ?? (await answer('Module of the app', found?.entry.module));
  const image = given.image ?? (await answer('Image', found?.image));
  return { ...given, ...(module !== undefined && { module }), ...(image !== undefined && { image }) };
}

function detectedOrUndefined(given: Choices, files: ReturnType<typeof filesIn>, folder: string): Project | undefined {
  try {
    return detect(files, folder, given);
  } catch (error) {
    if (error instanceof DetectError) return undefined;
    throw error;
  }
}

/** An empty line takes the default. @throws CommandError at the end of the input */
async function answer(question: string, fallback: string | undefined): Promise<string | undefined> {
  const terminal = createInterface({ input: process.stdin, output: process.stdout });
  try {
    const ended = Promise.withResolvers<never>();
    terminal.once('close', () => ended.reject(new CommandError('nothing is written')));
    const text = await Promise.race([
      terminal.question(`${question}${fallback === undefined ? '' : ` [${fallback}]`}: `),
      ended.promise,
    ]);
    return text.trim() || fallback;
  } finally {
    terminal.close();
  }
}

const confirmed = async (count: number) =>
  /^y/i.test((await answer(`Write ${count} file${count === 1 ? '' : 's'}? (y/n)`, 'y')) ?? '');

/** After the files: if it is interrupted, the next run finds those of this plan unchanged. */
function writeRecord(root: string, project: Project, record: InitRecord, all: readonly Step[]): void {
  const hashes: Record<string, string> = { ...record.hashes };
  for (const { planned, state, isWritten } of all)
    if (planned.kind === 'file' && (isWritten || state === 'same')) hashes[planned.path] = hashOf(planned.text);
  const path = below(project.folder, RECORD);
  const text = recordText({ choices: record.choices, hashes });
  if (filesIn(root).read(path) !== text)
    write(root, {
      planned: { kind: 'file', path, text, isExecutable: false },
      state: 'new',
      current: undefined,
      isWritten: true,
    });
}

const pathOf = ({ planned }: Step) => planned.path;
const kept = (all: readonly Step[]) => all.filter(({ state, isWritten }) => state !== 'same' && !isWritten);
const keptLine = (step: Step) => `${pathOf(step)} is kept, it ${STATES[step.state]} (--force overwrites it)`;

function lineOf(step: Step): string {
  if (!step.isWritten) return step.state === 'same' ? `  same       ${pathOf(step)}` : `  keep       ${keptLine(step)}`;
  const word = step.planned.kind === 'addition' ? 'add to' : step.state === 'new' ? 'write' : 'overwrite';
  return `  ${word.padEnd(10)} ${pathOf(step)}`;
}

/** A unified diff from what is there to what would be. */
function patchOf({ planned, current }: Step): string {
  if (planned.kind === 'copy') return `Binary file ${planned.from} is copied to ${planned.path}\n`;
  const from = current === undefined ? '/dev/null' : `a/${planned.path}`;
  return createTwoFilesPatch(
    from,
    `b/${planned.path}`,
    current === undefined ? '' : bodyOf(current),
    current === undefined ? planned.text : bodyOf(planned.text),
    undefined,
    undefined,
    { headerOptions: FILE_HEADERS_ONLY },
  );
}

function print(text: string): void {
  if (text !== '') process.stdout.write(text.endsWith('\n') ? text : `${text}\n`);
}
