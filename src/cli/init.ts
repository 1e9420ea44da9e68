/**
 * `bosun init` and `bosun upgrade --check`: the questions, and what a person is shown. What is written follows from src/init.
 */
import { join } from 'node:path';
import { createInterface } from 'node:readline/promises';
import { createTwoFilesPatch, FILE_HEADERS_ONLY } from 'diff';
import { type Choices, DetectError, detect, isPort, nameOf, type Project } from '../init/detect.ts';
import { filesIn } from '../init/files.ts';
import { locate } from '../init/location.ts';
import { REDIS_COMPONENTS } from '../init/overlay.ts';
import { below } from '../init/package-json.ts';
import { type Planned, plan } from '../init/plan.ts';
import { bodyOf, hashOf, type InitRecord, RECORD, readRecord, recordText, STATES } from '../init/record.ts';
import { settled } from '../init/settled.ts';
import { type Step, scriptsIn, steps, write } from '../init/write.ts';
import { CliExitCode } from '../protocol/exit.ts';
import { CommandError } from './client.ts';
import { notesOf, summaryOf } from './init-notes.ts';

export interface InitOptions extends Choices {
  yes?: true;
  force?: true;
  dryRun?: true;
  json?: true;
  helm?: boolean;
}

const KIT_FOLDER = join(import.meta.dirname, '..', '..');

/** Writes what a container, a cluster and CI need into the repository of the working directory. @throws CommandError */
export async function init(options: InitOptions): Promise<void> {
  const force = options.force === true;
  const prepared = await prepare(options, options.yes !== true && options.dryRun !== true);
  const { root, record, planOf } = prepared;
  const planned = planOf(prepared.choices, force);
  const before = Object.keys(record.hashes).length === 0 ? planned : planOfOrUndefined(prepared, record.choices);
  const all = steps(planned, filesIn(root), record, force, before);
  const choices = settled(prepared.choices, record, all, other => planOfOrUndefined(prepared, other));
  const project = prepared.projectOf(choices);
  const written = all.filter(step => step.isWritten);
  if (options.dryRun) {
    print(written.map(patchOf).join(''));
    for (const step of kept(all)) process.stderr.write(`bosun: ${keptLine(step)}\n`);
    return;
  }
  if (options.json !== true) print([...summaryOf(project), ...all.map(lineOf)].join('\n'));
  if (written.length > 0 && isInteractive(options) && !(await confirmed(written.length)))
    throw new CommandError('nothing is written');
  for (const { planned: each } of written) write(root, each);
  writeRecord(prepared, { ...record, choices }, all);
  if (options.json) print(JSON.stringify({ written: written.map(pathOf), kept: kept(all).map(pathOf) }));
  else print(['', ...notesOf(project, kept(all).length > 0)].join('\n'));
}

/**
 * Compares what `bosun init` wrote with what it would write today. The exit code is 1 if that has changed: not if only the repository has, whose
 * files are there to be edited. With `accept`, what has been edited is from then on compared with today's templates. @throws CommandError
 */
export async function upgradeCheck({ json, accept }: { json?: true; accept?: true }): Promise<void> {
  const prepared = await prepare({}, false);
  const { root, record, choices } = prepared;
  if (Object.keys(record.hashes).length === 0)
    throw new CommandError(
      `upgrade --check compares what bosun init wrote, found no ${RECORD} in ${process.cwd()}`,
      CliExitCode.badConfig,
    );
  const all = steps(prepared.planOf(choices, false), filesIn(root), record, false);
  if (accept) {
    const edited = all.filter(({ state }) => state === 'both');
    for (const step of edited) print(`${pathOf(step)} is taken as it is`);
    return writeRecord(prepared, record, edited, true);
  }
  const different = all.filter(({ state }) => state !== 'same' && state !== 'foreign');
  if (json) print(JSON.stringify({ differences: different.map(step => ({ path: pathOf(step), state: step.state })) }));
  else if (different.length === 0) print('every file is as bosun init would write it');
  else
    print(
      different
        .flatMap(step => [
          `${pathOf(step)} ${step.state === 'new' ? 'is missing' : STATES[step.state]}`,
          ...(step.state === 'unused' ? [] : [patchOf(step)]),
        ])
        .join('\n'),
    );
  if (different.some(({ state, isWritten }) => isWritten || state === 'both')) process.exitCode = CliExitCode.failed;
}

interface Prepared {
  root: string;
  folder: string;
  record: InitRecord;
  /** What was given, recorded or found. */
  choices: Choices;
  projectOf(choices: Choices): Project;
  planOf(choices: Choices, force: boolean): Planned[];
}

async function prepare(options: InitOptions, mayAnswer: boolean): Promise<Prepared> {
  try {
    const { root, folder } = locate(process.cwd(), KIT_FOLDER);
    const files = filesIn(root);
    const record = readRecord(filesIn(join(root, folder)));
    const given = withRedis({ ...record.choices, ...chosen(options) }, options);
    const isFirst = Object.keys(record.hashes).length === 0;
    const project = detect(
      files,
      folder,
      mayAnswer && isFirst && isInteractive(options) ? await answered(given, files, folder) : given,
    );
    const { name, image, port, redis, entry, namespace, components, chart } = project;
    const choices = { name, image, module: entry.module, port, redis, namespace, components, ...(chart && { chart }) };
    const projectOf = (other: Choices) => detect(files, folder, other);
    const planOf = (other: Choices, force: boolean) => plan(projectOf(other), files, { scripts: record.scripts, force });
    planOf(choices, false);
    return { root, folder, record, choices, projectOf, planOf };
  } catch (error) {
    throw error instanceof CommandError ? error : new CommandError((error as Error).message, CliExitCode.badConfig);
  }
}

/** What the command line names. @throws CommandError */
function chosen({ name, image, module, port, redis, namespace, components, helm: chart }: InitOptions): Choices {
  if (name !== undefined && nameOf(name) !== name)
    throw new CommandError(`--name must be lower-case letters, digits and "-", at most 40, got "${name}"`, CliExitCode.usage);
  if (port !== undefined && !isPort(port))
    throw new CommandError(`--port must be from 1024 to 65535, and not 9090, got "${port}"`, CliExitCode.usage);
  const given = { name, image, module, port, redis, namespace, components, chart };
  return Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
}

/** The recorded components follow --redis and --no-redis, unless they are given too. */
function withRedis(given: Choices, { redis, components }: InitOptions): Choices {
  if (redis === undefined || components !== undefined || given.components === undefined) return given;
  const isThere = given.components.some(name => REDIS_COMPONENTS.includes(name));
  if (redis) return isThere ? given : { ...given, components: ['redis', ...given.components] };
  return { ...given, components: given.components.filter(name => !REDIS_COMPONENTS.includes(name)) };
}

/** The plan by recorded choices; undefined if they no longer fit the repository, such as a module that is gone. */
function planOfOrUndefined({ planOf }: Prepared, choices: Choices): Planned[] | undefined {
  try {
    return planOf(choices, false);
  } catch (error) {
    if (error instanceof DetectError) return undefined;
    throw error;
  }
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
function writeRecord({ root, folder }: Prepared, record: InitRecord, all: readonly Step[], accept = false): void {
  const hashes = { ...record.hashes };
  let scripts = record.scripts;
  for (const { planned, state, isWritten } of all) {
    if (planned.kind === 'file' && (accept || isWritten || state === 'same')) hashes[planned.path] = hashOf(planned.text);
    if (planned.kind === 'removal' && isWritten) delete hashes[planned.path];
    if (planned.kind === 'addition') scripts = { ...scripts, ...scriptsIn(planned) };
  }
  const path = below(folder, RECORD);
  const text = recordText({ ...record, hashes, scripts });
  if (filesIn(root).read(path) !== text) write(root, { kind: 'file', path, text, isExecutable: false });
}

const pathOf = ({ planned }: Step) => planned.path;
const kept = (all: readonly Step[]) => all.filter(({ state, isWritten }) => state !== 'same' && !isWritten);
const keptLine = ({ planned, state }: Step) =>
  `${planned.path} is kept, it ${STATES[state]}${state === 'unused' ? '' : ' (--force overwrites it)'}`;

function lineOf(step: Step): string {
  if (!step.isWritten) return step.state === 'same' ? `  same       ${pathOf(step)}` : `  keep       ${keptLine(step)}`;
  const word =
    step.planned.kind === 'removal'
      ? 'remove'
      : step.planned.kind === 'addition'
        ? 'add to'
        : step.state === 'new'
          ? 'write'
          : 'overwrite';
  return `  ${word.padEnd(10)} ${pathOf(step)}`;
}

/** A unified diff from what is there to what would be. */
function patchOf({ planned, current }: Step): string {
  const { path } = planned;
  if (planned.kind === 'copy') return `Binary file ${planned.from} is copied to ${path}\n`;
  const [from, before] = current === undefined ? ['/dev/null', ''] : [`a/${path}`, bodyOf(current)];
  if (planned.kind === 'removal') return patch(from, '/dev/null', current ?? '', '');
  return patch(from, `b/${path}`, before, current === undefined ? planned.text : bodyOf(planned.text));
}

const patch = (from: string, to: string, before: string, after: string): string =>
  createTwoFilesPatch(from, to, before, after, undefined, undefined, { headerOptions: FILE_HEADERS_ONLY });

function print(text: string): void {
  if (text !== '') process.stdout.write(text.endsWith('\n') ? text : `${text}\n`);
}
