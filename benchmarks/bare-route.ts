import Fastify from 'fastify';

// The yardstick of http.ts, in a process of its own: Fastify with one route that answers with the given bytes.
const [path = '/', body = ''] = process.argv.slice(2);
const app = Fastify({ logger: false });
app.get(path, (_request, reply) => reply.header('content-type', 'text/plain; charset=utf-8').send(body));
await app.listen({ host: '127.0.0.1', port: 0 });
const address = app.server.address();
process.send?.(address !== null && typeof address === 'object' ? address.port : 0);
process.on('disconnect', () => process.exit());
