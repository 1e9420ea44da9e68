/**
 * The client of the control socket: sends a command to the running primary and reads its answer.
 */
import { accessSync, constants } from 'node:fs';
import type { IncomingMessage } from 'node:http';
import { dirname } from 'node:path';
import { createInterface } from 'node:readline';
import type { Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { AnswerLine, CommandName, LogPart, ParametersOf, ResultOf } from '../protocol/commands.ts';
import { CliExitCode } from '../protocol/exit.ts';
import { connectTrusted, UntrustedSocketError } from '../protocol/trusted-socket.ts';

const http = process.getBuiltinModule('node:http');

/** The command failed. `exitCode` is that of `bosun`. */
export class CommandError extends Error {
  readonly exitCode: CliExitCode;
  constructor(message: string, exitCode: CliExitCode = CliExitCode.failed) {
    super(message);
    this.exitCode = exitCode;
  }
}

const ENDED = 'the primary ended before it answered';

/** Runs a command in the primary; `onStep` receives a description of each step. @throws CommandError */
export async function call<Name extends CommandName>(
  socket: string,
  command: Name,
  parameters: ParametersOf<Name> = {} as ParametersOf<Name>,
  onStep: (step: string) => void = () => undefined,
): Promise<ResultOf<Name>> {
  const response = await post(socket, command, parameters);
  for await (const line of linesOf(response)) {
    if ('step' in line) onStep(line.step);
    else if ('error' in line) throw new CommandError(line.error);
    else if ('result' in line) return line.result as ResultOf<Name>;
  }
  throw new CommandError(ENDED);
}

/** Runs a command that answers with bytes, and writes them to `sink`. @throws CommandError */
export async function stream(socket: string, command: CommandName, parameters: object, sink: Writable): Promise<void> {
  const response = await post(socket, command, { ...parameters, stream: true });
  if (response.headers['content-type'] === 'application/octet-stream') {
    try {
      await pipeline(response, sink, { end: false });
    } catch (error) {
      throw new CommandError(`the response was truncated: ${(error as Error).message}`);
    }
    return;
  }
  for await (const line of linesOf(response)) if ('error' in line) throw new CommandError(line.error);
  throw new CommandError(ENDED);
}

/** Reads the log of the pool; each part is printed before the next one is read. @throws CommandError */
export async function readLogs(
  socket: string,
  parameters: ParametersOf<'logs'>,
  onPart: (part: LogPart) => Promise<void> | void,
): Promise<void> {
  for await (const line of linesOf(await post(socket, 'logs', parameters))) {
    if ('log' in line) await onPart(line.log);
    else if ('error' in line) throw new CommandError(line.error);
    else return;
  }
  throw new CommandError(ENDED);
}

async function* linesOf(response: IncomingMessage): AsyncGenerator<AnswerLine> {
  try {
    for await (const text of createInterface({ input: response })) yield JSON.parse(text) as AnswerLine;
  } catch {
    throw new CommandError(ENDED); // the connection broke
  }
}

async function post(path: string, command: CommandName, parameters: object): Promise<IncomingMessage> {
  const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
  try {
    const socket = await connectTrusted(path);
    const request = http.request({ createConnection: () => socket, path: `/${command}`, method: 'POST' }, resolve);
    request.once('error', reject).end(JSON.stringify(parameters));
    return await promise;
  } catch (error) {
    throw connectionError(error as NodeJS.ErrnoException, path);
  }
}

/** Why no socket can be made in `folder`, as far as this user can see: a primary of another user may be able to. */
function whyUnwritable(folder: string): string | undefined {
  try {
    accessSync(folder, constants.W_OK);
    return undefined;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'EROFS') return `${folder} is read-only (EROFS)`;
    return code === 'ENOENT' ? `${folder} does not exist (ENOENT)` : undefined;
  }
}

function connectionError(error: NodeJS.ErrnoException, socket: string): CommandError {
  const { code, message } = error;
  if (error instanceof UntrustedSocketError) return new CommandError(message, CliExitCode.notPermitted);
  if (code === 'EACCES' || code === 'EPERM') {
    return new CommandError(`the primary at ${socket} belongs to another user; run bosun as that user`, CliExitCode.notPermitted);
  }
  const unwritable = code === 'ENOENT' ? whyUnwritable(dirname(socket)) : undefined;
  if (unwritable !== undefined) {
    return new CommandError(
      `no primary is running at ${socket}, or it cannot create that socket: ${unwritable}; mount a writable folder there, or set CONTROL_SOCKET`,
      CliExitCode.unavailable,
    );
  }
  if (code === 'ENOENT' || code === 'ECONNREFUSED') {
    return new CommandError(
      `no primary is running at ${socket}; set PORT, HOST or CONTROL_SOCKET as for the primary, or use --socket`,
      CliExitCode.unavailable,
    );
  }
  return new CommandError(`cannot connect to the primary at ${socket}: ${message}`, CliExitCode.unavailable);
}
