import { builtProgram } from './built.ts';
import { bareRoot, engineRoot, engines, furnishedRoot, routingRoot } from './engine.ts';

/**
 * Makes what system tests would wait for, unless it is in the cache: the root file systems, most of whose time is a
 * download, and the program. test/run starts it beside the checks that need the processor.
 */
await builtProgram();
for (const engine of engines) await engineRoot(engine);
await furnishedRoot();
await routingRoot();
await bareRoot('bookworm');
