/**
 * An app with `fetch(Request)`, as Hono, h3, itty-router and Elysia have it, behind a request listener. Imported for such an app alone.
 */
import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http';
import { createRequire } from 'node:module';
import type { ServerRequest } from 'srvx';
import { toNodeHandler } from 'srvx/node';
import type { Kit } from '../index.ts';
import type { LogSource } from '../log/log.ts';
import { typeName } from './kit/arguments.ts';
import { logRequestError } from './request-errors.ts';
import { hasMethod, isObject } from './shapes.ts';

/** The second argument of `fetch`: Hono's `c.env`. */
interface Environment {
  kit: Kit;
  incoming: IncomingMessage;
  outgoing: ServerResponse;
}

export interface FetchApp {
  fetch(request: Request, environment: Environment): Response | Promise<Response>;
}

type Exchange = Pick<Environment, 'incoming' | 'outgoing'>;
type Fetch = (request: Request, exchange: Exchange) => Response | Promise<Response>;

/** The listener of `app`, which the module `file` exports. */
export function fetchListener(app: FetchApp, kit: Kit, file: string): RequestListener {
  const log: LogSource = () => kit.log;
  const failed = (error: unknown, { incoming, outgoing }: Exchange): Response => {
    logRequestError(log, error, incoming, outgoing);
    return new Response('Internal Server Error', { status: 500 });
  };
  // Without a promise where the app has none: the adapters have a faster way for it.
  const fetch: Fetch = (request, exchange) => {
    try {
      const response = app.fetch(request, { ...exchange, kit });
      if (!(response instanceof Promise)) return checked(response);
      return response.then(checked).catch((error: unknown) => failed(error, exchange));
    } catch (error) {
      return failed(error, exchange);
    }
  };
  if (!isHono(app)) return webListener(fetch, kit);
  logHonoErrors(app, log);
  return honoListener(fetch, file) ?? webListener(fetch, kit);
}

/** By its structure: a Response may be another package's. */
function checked(response: unknown): Response {
  if (isObject(response) && typeof response.status === 'number' && isObject(response.headers))
    return response as unknown as Response;
  throw new TypeError(`fetch(Request) must return a Response, got ${typeName(response)}`);
}

function webListener(fetch: Fetch, kit: Kit): RequestListener {
  const handler = toNodeHandler(
    (request: ServerRequest) => {
      const { req, res } = request.runtime?.node ?? {};
      return fetch(request, { incoming: req as IncomingMessage, outgoing: res as ServerResponse });
    },
    { trustProxy: kit.config.trustProxy },
  ) as RequestListener;
  return async (incoming, outgoing) => {
    await handler(incoming, outgoing);
    // The body of the response failed.
    if (outgoing.errored) logRequestError(() => kit.log, outgoing.errored, incoming, outgoing);
  };
}

/** The app's own adapter, if it has one: what Hono's middleware for Node.js needs of it, srvx does not have. */
function honoListener(fetch: Fetch, file: string): RequestListener | undefined {
  const require = createRequire(file);
  try {
    require.resolve('@hono/node-server');
  } catch {
    return undefined;
  }
  const { getRequestListener } = require('@hono/node-server') as { getRequestListener(fetch: Fetch): RequestListener };
  return getRequestListener(fetch);
}

interface Hono extends FetchApp {
  errorHandler: (error: Error, context: HonoContext) => Response | Promise<Response>;
}
type HonoContext = { env?: Partial<Exchange>; text(body: string, status: number): Response };

function isHono(app: FetchApp): app is Hono {
  return ['request', 'onError', 'errorHandler'].every(name => hasMethod(app, name));
}

/** Logs the errors of an app without `onError`: Hono's own handler prints them. */
function logHonoErrors(app: Hono, log: LogSource): void {
  const { errorHandler } = app;
  const Class = app.constructor as new () => Hono;
  if (new Class().errorHandler !== errorHandler) return;
  app.errorHandler = (error, context) => {
    const { incoming, outgoing } = context.env ?? {};
    // An HTTPException has its own response, and is not printed.
    if ('getResponse' in error || incoming === undefined || outgoing === undefined) return errorHandler(error, context);
    logRequestError(log, error, incoming, outgoing);
    return context.text('Internal Server Error', 500);
  };
}
