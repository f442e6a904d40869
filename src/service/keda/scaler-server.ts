import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { isIPv6, type Socket } from 'node:net';
import {
  logVerbosity,
  Server,
  ServerCredentials,
  type ServerUnaryCall,
  type ServerWritableStream,
  type sendUnaryData,
  setLogVerbosity,
  status,
} from '@grpc/grpc-js';
import type { TlsMaterial } from '../../adapters/tls-files.js';
import { QuietConnections, quietMs } from '../quiet-connections.js';
import { type Listener, listenError, shownHost } from '../server.js';
import type { ControllerView } from '../view.js';
import {
  type ActivityStream,
  ActivityStreams,
  type ScalerAnswer,
  scalerAnswer,
  scalerMetricName,
} from './external-scaler.js';
import {
  externalScalerService,
  type GetMetricSpecResponse,
  type GetMetricsRequest,
  type GetMetricsResponse,
  type IsActiveResponse,
  type ScaledObjectRef,
} from './scaler-protocol.js';

/** KEDA's external scaler on a port of its own: gRPC in the clear, over TLS, or with client certificates. */

export type ScalerServerOptions = {
  readonly view: ControllerView;
  readonly host: string;
  /** 0 = a free one. */
  readonly port: number;
  /** Null = in the clear. */
  readonly tls: ScalerTls | null;
  readonly limits?: Partial<ScalerLimits>;
};

/** Certificates of the server, and of whom it believes. */
export type ScalerTls = {
  readonly first: TlsMaterial;
  /** Follows the files; the result ends that. */
  readonly follow: (onChange: (material: TlsMaterial) => void) => () => void;
};

export type ScalerLimits = {
  /** Streams that are open at one time, each one ScaledObject of KEDA's; one more is refused. */
  readonly streams: number;
  /** Answers that wait for a client that does not read; one more ends its stream. */
  readonly waitingAnswers: number;
};

/** As many as the largest fleet has deployments, and some that KEDA has not closed yet. */
const defaultLimits: ScalerLimits = { streams: 10_000, waitingAnswers: 16 };

/** A ScaledObjectRef holds two names and the metadata of a trigger: some hundred bytes. [bytes] */
const largestRequest = 64 * 1024;

/** A peer that is gone without a word is noticed after these [ms]; its streams end. */
const keepaliveMs = 60_000;
const keepaliveTimeoutMs = 20_000;

/** Where Node tells of every connection that comes in. grpc-js keeps its servers, and their connections, to itself. */
const connections = 'net.server.socket';

/** What a scaler's answer is in gRPC. UNAVAILABLE is what clients may ask again. */
const codes = {
  'bad-request': status.INVALID_ARGUMENT,
  'no-such-deployment': status.NOT_FOUND,
  'not-known': status.UNAVAILABLE,
} as const;

type Unary<Request, Response> = (call: ServerUnaryCall<Request, Response>, answer: sendUnaryData<Response>) => void;

export class ScalerServer implements Listener {
  readonly #options: ScalerServerOptions;
  readonly #limits: ScalerLimits;
  readonly #streams: ActivityStreams;
  /** Those of `#streams`, for the end of all. */
  readonly #calls = new Map<ActivityStream, ServerWritableStream<ScaledObjectRef, IsActiveResponse>>();
  readonly #server = new Server({
    'grpc.max_receive_message_length': largestRequest,
    'grpc.keepalive_time_ms': keepaliveMs,
    'grpc.keepalive_timeout_ms': keepaliveTimeoutMs,
  });
  /** All of them: also one that has asked for something before asks for nothing while the server drains. */
  readonly #open = new QuietConnections();
  #port: number | null = null;
  #unfollow: () => void = () => undefined;
  #drained: Promise<void> | null = null;

  constructor(options: ScalerServerOptions) {
    this.#options = options;
    this.#limits = { ...defaultLimits, ...options.limits };
    this.#streams = new ActivityStreams(options.view);
    // Its own log lines go to stderr beside ours; what matters of them is an error here.
    setLogVerbosity(logVerbosity.NONE);
    this.#server.addService(externalScalerService(), {
      IsActive: this.#isActive,
      StreamIsActive: (call: ServerWritableStream<ScaledObjectRef, IsActiveResponse>) => this.#streamIsActive(call),
      GetMetricSpec: this.#getMetricSpec,
      GetMetrics: this.#getMetrics,
    });
    options.view.onCycle(() => this.#streams.tellAll());
  }

  async listen(): Promise<string> {
    const { host, port, tls } = this.#options;
    const credentials = tls === null ? ServerCredentials.createInsecure() : new ReloadedCredentials(tls.first);
    subscribe(connections, this.#connected);
    const actualPort = await new Promise<number>((resolve, reject) => {
      const address = `${isIPv6(host) ? `[${host}]` : host}:${port}`;
      this.#server.bindAsync(address, credentials, (error, bound) =>
        error === null ? resolve(bound) : reject(listenError(withCode(error), { host, port, section: 'keda.scaler' })),
      );
    });
    this.#port = actualPort;
    if (tls !== null && credentials instanceof ReloadedCredentials) {
      this.#unfollow = tls.follow((material) => credentials.use(material));
    }
    const secured =
      tls === null ? 'in the clear' : tls.first.clientCa === null ? 'TLS' : 'TLS with client certificates';
    return `KEDA's external scaler on ${shownHost(host)}:${actualPort} (gRPC, ${secured})`;
  }

  drain(): Promise<void> {
    this.#drained ??= new Promise((resolve) => {
      this.#unfollow();
      // A stream has no end of its own; KEDA opens another one, on whoever serves next.
      for (const [stream, call] of [...this.#calls]) {
        this.#close(stream);
        call.emit('error', { code: status.UNAVAILABLE, details: 'gpumix is stopping' });
      }
      // Calls are answered at once; what is still connected after a moment does not listen to what gRPC says of the end.
      const endAll = setTimeout(() => this.cut(), quietMs);
      this.#server.tryShutdown(() => {
        clearTimeout(endAll);
        unsubscribe(connections, this.#connected);
        resolve();
      });
    });
    return this.#drained;
  }

  cut(): void {
    this.#unfollow();
    this.#server.forceShutdown();
    this.#open.end();
  }

  readonly #connected = (message: unknown): void => {
    const { socket } = message as { readonly socket: Socket };
    if (socket.localPort === this.#port) this.#open.add(socket);
  };

  readonly #isActive: Unary<ScaledObjectRef, IsActiveResponse> = (call, answer) => {
    const found = scalerAnswer(this.#options.view, call.request);
    if (found.kind === 'known') answer(null, { result: found.replicas > 0 });
    else answer(errorOf(found));
  };

  /** Also of a Deployment that is not known: whoever asks wants to scale it, and its numbers say what is wrong. */
  readonly #getMetricSpec: Unary<ScaledObjectRef, GetMetricSpecResponse> = (_call, answer) => {
    answer(null, { metricSpecs: [{ metricName: scalerMetricName, targetSize: 1, targetSizeFloat: 1 }] });
  };

  readonly #getMetrics: Unary<GetMetricsRequest, GetMetricsResponse> = (call, answer) => {
    const { scaledObjectRef, metricName } = call.request;
    if (metricName !== '' && metricName !== scalerMetricName) {
      const message = `found metric ${JSON.stringify(metricName.slice(0, 100))}, expected ${scalerMetricName}`;
      answer(errorOf({ kind: 'bad-request', message }));
      return;
    }
    const found = scalerAnswer(this.#options.view, scaledObjectRef);
    if (found.kind !== 'known') {
      answer(errorOf(found));
      return;
    }
    const { replicas } = found;
    answer(null, {
      metricValues: [{ metricName: scalerMetricName, metricValue: replicas, metricValueFloat: replicas }],
    });
  };

  #streamIsActive(call: ServerWritableStream<ScaledObjectRef, IsActiveResponse>): void {
    const fail = (code: status, details: string) => {
      call.emit('error', { code, details });
    };
    if (this.#drained !== null) {
      fail(status.UNAVAILABLE, 'gpumix is stopping');
      return;
    }
    if (this.#streams.size >= this.#limits.streams) {
      fail(status.RESOURCE_EXHAUSTED, `${this.#limits.streams} streams are open already`);
      return;
    }
    const stream: ActivityStream = {
      send: (result) => {
        if (call.writableLength < this.#limits.waitingAnswers) {
          call.write({ result });
          return;
        }
        this.#close(stream);
        fail(status.RESOURCE_EXHAUSTED, `${this.#limits.waitingAnswers} answers wait to be read`);
      },
      end: (answer) => {
        this.#close(stream);
        fail(codes[answer.kind], answer.message);
      },
    };
    this.#calls.set(stream, call);
    for (const event of ['cancelled', 'close', 'error'] as const) call.once(event, () => this.#close(stream));
    this.#streams.add(stream, call.request);
  }

  #close(stream: ActivityStream): void {
    this.#streams.remove(stream);
    this.#calls.delete(stream);
  }
}

function errorOf(answer: Exclude<ScalerAnswer, { readonly kind: 'known' }>): { code: status; details: string } {
  return { code: codes[answer.kind], details: answer.message };
}

/** Credentials whose certificates change under an open port: connections made afterwards have the new ones. */
class ReloadedCredentials extends ServerCredentials {
  constructor(first: TlsMaterial) {
    super({ requestCert: first.clientCa !== null, rejectUnauthorized: first.clientCa !== null }, contextOf(first));
  }

  use(material: TlsMaterial): void {
    this.updateSecureContextOptions(contextOf(material));
  }

  _equals(other: ServerCredentials): boolean {
    return this === other;
  }
}

function contextOf({ cert, key, clientCa }: TlsMaterial): { cert: string; key: string; ca?: string } {
  return { cert, key, ...(clientCa === null ? {} : { ca: clientCa }) };
}

/** grpc-js tells why it could not bind in the text of its error only. */
function withCode(error: Error): Error {
  const [code] = /\b(EADDRINUSE|EACCES|EADDRNOTAVAIL|ENOTFOUND|EAI_AGAIN|EINVAL)\b/.exec(error.message) ?? [];
  if (code !== undefined) return Object.assign(error, { code });
  // A name that cannot be resolved is reported without a code.
  return /resol/i.test(error.message) ? Object.assign(error, { code: 'ENOTFOUND' }) : error;
}
