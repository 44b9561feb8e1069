import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { z } from 'zod';
import { ended, tracked } from './children.ts';

const dnsResponse = z.object({
  /** RFC 1035's RCODE, or why there is no response. */
  code: z.union([z.number(), z.string()]),
  data: z.array(z.string()),
  /** The longest. */
  ttl: z.number(),
  isTruncated: z.boolean().optional(),
  hasExtension: z.boolean().optional(),
  ms: z.number(),
});

export type DnsResponse = z.infer<typeof dnsResponse>;
export type DnsTransport = 'udp' | 'tcp' | 'edns';

/** A program in a network namespace that queries Docker's name server. */
export interface DnsClient extends AsyncDisposable {
  ask(name: string, type: string, transport: DnsTransport): Promise<DnsResponse>;
}

/** Starts a client in the namespace at a path. One query at a time. */
export function startDnsClient(namespacePath: string): DnsClient {
  const script = join(import.meta.dirname, 'dns-query.ts');
  const client = tracked(
    'DNS client',
    spawn('nsenter', [`--net=${namespacePath}`, process.execPath, script], {
      stdio: ['pipe', 'pipe', 'inherit'],
    }),
  );
  const lines = createInterface({ input: client.stdout })[Symbol.asyncIterator]();
  return {
    ask: async (name, type, transport) => {
      client.stdin.write(`${name} ${type} ${transport}\n`);
      const { value } = await lines.next();
      return dnsResponse.parse(JSON.parse(String(value)));
    },
    [Symbol.asyncDispose]: async () => {
      client.stdin.end();
      await ended('DNS client', client);
    },
  };
}
