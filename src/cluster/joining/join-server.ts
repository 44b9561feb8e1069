import { TLSSocket, type SecureContextOptions } from 'node:tls';
import { fastify, type FastifyInstance, type FastifyRequest } from 'fastify';
import type { Server } from 'node:https';
import { Socket } from 'node:net';
import type { z } from 'zod';
import { CalicoError, toCalicoError } from '../../errors/error.ts';
import { firstIssue } from '../../model/issues.ts';
import { readClusterRecords, type ClusterHost } from '../records.ts';
import { etcdUserOf } from '../roles.ts';
import { checkToken } from '../tokens.ts';
import { admitIsland, checkIsland, issueNodeCertificate, type AdmissionDeps } from './admission.ts';
import { ConnectionLimit } from './connection-limit.ts';
import { GuessLimit } from './guess-limit.ts';
import {
  islandRequest,
  joinHeader,
  joinHeaderSchema,
  joinRequest,
  nodeRequest,
  paths,
  renewRequest,
} from './protocol.ts';

/**
 * The HTTPS server of a member: hosts join with a token, and hosts of the cluster renew their certificate. Nothing of a
 * request but its headers is read before the sender has proved who it is.
 */

export interface JoinServerDeps extends AdmissionDeps {
  /** Removes a host that leaves from the records, so that the keeper ends its part. */
  readonly leave: (node: string) => Promise<void>;
  /** Reports a rejected request. */
  readonly onRejected: (rejection: {
    readonly path: string;
    readonly sender: string;
    readonly error: CalicoError;
  }) => void;
}

/** PEM texts: the certificate of this host, its key and that of the authority. */
export interface ServerIdentity {
  readonly certificate: string;
  readonly key: string;
  readonly authority: string;
}

export interface JoinServer {
  readonly port: number;
  /** Uses a renewed certificate for new connections. */
  readonly reload: (identity: ServerIdentity) => void;
  readonly close: () => Promise<void>;
}

/** An island sends all its data; that of a host with 10,000 containers has about 25 MB. */
const bodyLimitBytes = 64 << 20;
/** Of all senders, and of one. A host has one connection at a time; several may be behind one address (NAT). */
const [maxConnections, maxPerSender] = [1024, 32];
/** For the TLS handshake and the headers of a request, in milliseconds: until then nobody knows who the sender is. */
const introductionMs = 10_000;

/** Starts the server. Throws the errors of listening. */
export async function startJoinServer(
  deps: JoinServerDeps,
  options: {
    readonly identity: ServerIdentity;
    readonly port: number;
    readonly host: string;
    /** Default: `introductionMs`. */
    readonly introductionMs?: number;
  },
): Promise<JoinServer> {
  const headersTimeout = options.introductionMs ?? introductionMs;
  const app = fastify({
    https: {
      ...secureContext(options.identity),
      requestCert: true,
      rejectUnauthorized: false,
      handshakeTimeout: headersTimeout,
      headersTimeout,
      connectionsCheckingInterval: Math.min(headersTimeout, 1000),
    },
    bodyLimit: bodyLimitBytes,
    requestTimeout: 120_000,
    connectionTimeout: 150_000,
    keepAliveTimeout: headersTimeout,
    exposeHeadRoutes: false,
    forceCloseConnections: true,
  });
  app.server.maxConnections = maxConnections;
  const perSender = new ConnectionLimit(maxPerSender);
  app.server.on('connection', (socket) => {
    if (socket instanceof Socket) perSender.admit(socket);
  });
  addRoutes(app, deps);
  await app.listen({ port: options.port, host: options.host });
  const address = app.server.address();
  return {
    port: typeof address === 'object' && address !== null ? address.port : options.port,
    reload: (identity) => app.server.setSecureContext(secureContext(identity)),
    close: () => app.close(),
  };
}

/** The certificate of the authority is presented too: whoever joins recognizes it by its fingerprint. */
function secureContext({ certificate, key, authority }: ServerIdentity): SecureContextOptions {
  return { cert: `${certificate}${authority}`, key, ca: authority, minVersion: 'TLSv1.2' };
}

interface Route {
  readonly path: string;
  /** Throws unless the sender has proved who it is; before the body is read. */
  readonly proof: (request: FastifyRequest) => Promise<void>;
  readonly answer: (request: FastifyRequest) => Promise<object>;
}

interface Presented {
  readonly token: { readonly id: string; readonly secret: string };
  readonly join: string;
}

function addRoutes(app: FastifyInstance<Server>, deps: JoinServerDeps): void {
  const { datastore, now } = deps;
  const limit = new GuessLimit();
  const stop = new AbortController();
  app.addHook('onClose', async () => stop.abort());
  const { signal } = stop;

  const tokenOf = (request: FastifyRequest): Presented => {
    const { authorization = '' } = request.headers;
    const [, id = '', secret = ''] =
      /^Bearer ([a-z2-7]{8})\.([A-Za-z0-9_-]{22})$/.exec(authorization) ?? [];
    return { token: { id, secret }, join: parse(joinHeaderSchema, request.headers[joinHeader]) };
  };
  const withToken = async (request: FastifyRequest): Promise<void> => {
    const sender = request.ip;
    const seconds = limit.waitSeconds(sender, now().getTime());
    if (seconds > 0) throw new CalicoError('cluster/too-many-guesses', { seconds });
    const { token, join } = tokenOf(request);
    try {
      await checkToken(datastore, { ...token, join }, { now: now(), signal });
    } catch (error) {
      const known = toCalicoError(error);
      if (known.code === 'cluster/token-rejected') limit.failed(sender, now().getTime());
      throw known;
    }
  };
  const withCertificate = async (request: FastifyRequest): Promise<void> => {
    if (commonNameOf(request) === undefined) throw new CalicoError('cluster/no-certificate', {});
  };
  /** Returns the host that asks, if its certificate is of its node and it is one of the cluster, or still leaves it. */
  const senderOf = async (request: FastifyRequest): Promise<ClusterHost> => {
    const { node } = parse(nodeRequest, request.body);
    const { hosts } = await readClusterRecords(datastore, signal);
    const host = hosts.find((one) => one.node === node);
    const isOwn = commonNameOf(request) === etcdUserOf(node);
    if (!isOwn || host === undefined) throw new CalicoError('cluster/not-a-host', { node });
    return host;
  };
  /** As `senderOf`, for a host that does not leave. */
  const nodeOf = async (request: FastifyRequest): Promise<string> => {
    const { node, record } = await senderOf(request);
    if (record.wanted === 'gone') throw new CalicoError('cluster/not-a-host', { node });
    return node;
  };

  const routes: readonly Route[] = [
    {
      path: paths.token,
      proof: withToken,
      answer: () => Promise.resolve({ uid: deps.uid }),
    },
    {
      path: paths.check,
      proof: withToken,
      answer: (request) => checkIsland(deps, parse(islandRequest, request.body), signal),
    },
    {
      path: paths.join,
      proof: withToken,
      answer: (request) =>
        admitIsland(deps, parse(joinRequest, request.body), { ...tokenOf(request), signal }),
    },
    {
      path: paths.moved,
      proof: withCertificate,
      answer: async (request) => {
        await deps.users.moved(await nodeOf(request));
        return {};
      },
    },
    {
      path: paths.renew,
      proof: withCertificate,
      answer: async (request) => {
        const node = await nodeOf(request);
        const body = parse(renewRequest, request.body);
        return {
          certificate: await issueNodeCertificate(deps, { node, request: body.request }),
          ca: deps.authority().certificate,
          endpoints: await deps.endpoints(),
        };
      },
    },
    {
      path: paths.member,
      proof: withCertificate,
      answer: async (request) => {
        const node = await nodeOf(request);
        const { hosts } = await readClusterRecords(datastore, signal);
        // Only the administrator's credential can write it, so a client cannot make itself a member.
        if (hosts.find((one) => one.node === node)?.record.wanted !== 'member') {
          throw new CalicoError('cluster/not-a-member', { node });
        }
        const { certificate, key } = deps.authority();
        return { ca: certificate, caKey: key };
      },
    },
    {
      path: paths.leave,
      proof: withCertificate,
      answer: async (request) => {
        await deps.leave((await senderOf(request)).node);
        return {};
      },
    },
  ];
  for (const { path, proof, answer } of routes) {
    app.post(path, { onRequest: proof }, (request) => answer(request));
  }
  app.setErrorHandler(async (thrown, request, reply) => {
    const error = toCalicoError(thrown);
    deps.onRejected({ path: request.url, sender: request.ip, error });
    const status = statusOf(error);
    return reply.code(status).send({ error: error.message, code: error.code });
  });
  app.setNotFoundHandler(async (_request, reply) =>
    reply.code(404).send({ error: 'unknown request; use the same version on all hosts', code: '' }),
  );
}

function statusOf({ code }: CalicoError): number {
  if (code === 'cluster/too-many-guesses') return 429;
  if (code.startsWith('cluster/')) return 403;
  return code.startsWith('datastore/') ? 503 : 500;
}

/** Returns the common name of the client's certificate, if the authority of the cluster has signed it. */
function commonNameOf({ raw: { socket } }: FastifyRequest): string | undefined {
  if (!(socket instanceof TLSSocket) || !socket.authorized) return undefined;
  const { CN } = socket.getPeerCertificate().subject;
  return typeof CN === 'string' ? CN : undefined;
}

function parse<Value>(schema: z.ZodType<Value>, value: unknown): Value {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const { field, why } = firstIssue(result.error);
  throw new CalicoError('cluster/bad-request', { field, why });
}
