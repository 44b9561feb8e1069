import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import type { Peer } from './peer.ts';
import { outputOrThrow } from '../process.ts';

/** What flows from one peer to another until it is ended. */
export interface Flow {
  /** Ends it; returns a sentence for what was lost, or an empty one. */
  lost(): Promise<string>;
}

/** Outages take minutes. */
const asLongAsItTakes = { timeoutMs: 900_000 };

const perl = ['perl', '-MIO::Socket::IP', '-MTime::HiRes=time,sleep', '-e'];

/** Pings an address 100 times a second. */
export async function pingFlow(from: Peer, to: Peer, address: string): Promise<Flow> {
  const script = `
ping -q -i 0.01 ${address} & pid=$!
# Fewer packets would show nothing.
sleep 1
until [ -e "$0" ]; do sleep 0.1; done
kill -INT $pid; wait $pid; rm "$0"`;
  return started({ from, to }, ['sh', '-c', script], (said) => {
    const [, sent = 0, received = 0] =
      /(\d+) packets transmitted, (\d+) received/.exec(said)?.map(Number) ?? [];
    // The last one may be in flight.
    return received > 20 && sent - received <= 1 ? '' : said;
  });
}

/** Sends a line over one TCP connection 100 times a second and expects each back. */
export async function tcpFlow(from: Peer, to: Peer, address: string): Promise<Flow> {
  const server = `
my $listener = IO::Socket::IP->new(LocalHost => '${address}', LocalPort => 8099, Listen => 1) or die $@;
my $connection = $listener->accept;
while (sysread($connection, my $data, 4096)) { syswrite($connection, $data) }
`;
  const serving = to.exec([...perl, server], asLongAsItTakes);
  const client = `
my ($end, $connection, $count, $longest) = ($ARGV[0], undef, 0, 0);
for (1 .. 300) {
  last if $connection = IO::Socket::IP->new(PeerHost => '${address}', PeerPort => 8099);
  sleep 0.1;
}
die $@ unless $connection;
$connection->autoflush(1);
$SIG{ALRM} = sub { die "line $count has not come back\\n" };
until (-e $end) {
  my $sent = time;
  alarm 20;
  print $connection "$count\\n";
  my $line = <$connection>;
  die "line $count has not come back\\n" unless defined $line && $line eq "$count\\n";
  $longest = time - $sent if time - $sent > $longest;
  $count++;
  sleep 0.01;
}
unlink $end;
printf "all of %d lines came back, the slowest after %d ms\\n", $count, $longest * 1000;
`;
  const flow = await started({ from, to }, [...perl, client], (said) =>
    /all of [1-9]\d+ lines came back/.test(said) ? '' : said,
  );
  return {
    lost: async () => {
      const lost = await flow.lost();
      if (lost === '') await serving;
      return lost;
    },
  };
}

/** Runs a command that ends when the file in its last argument exists; `lossOf` judges its output. */
async function started(
  { from, to }: { readonly from: Peer; readonly to: Peer },
  argv: readonly string[],
  lossOf: (said: string) => string,
): Promise<Flow> {
  const end = `/run/flow-${randomBytes(4).toString('hex')}`;
  const running = from.exec([...argv, end], asLongAsItTakes);
  return {
    lost: async () => {
      outputOrThrow(['touch'], await from.exec(['touch', end]));
      const { stdout, stderr } = await running;
      const loss = lossOf(stdout + stderr);
      return loss === '' ? '' : `${from.name} to ${to.name}: ${loss.trim()}`;
    },
  };
}

/** Checks that flows lose nothing while something happens. */
export async function flowsDuring(
  flows: readonly Flow[],
  happens: () => Promise<void>,
): Promise<void> {
  let losses: readonly string[] = [];
  try {
    await happens();
  } finally {
    losses = await Promise.all(flows.map((flow) => flow.lost()));
  }
  assert.deepEqual(
    losses.filter((loss) => loss !== ''),
    [],
  );
}
