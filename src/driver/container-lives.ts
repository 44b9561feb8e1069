import { backoffMs, pause, withDeadline } from '../async/deadline.ts';
import type { Work } from '../async/supervise.ts';
import type { DockerApi } from './docker/docker-api.ts';
import type { DockerEvent } from './docker/messages.ts';

/** Receives the life cycle of all containers of this engine, on any network. */
export interface ContainerListener {
  /** The present containers. */
  containersAre(ids: ReadonlySet<string>): void;
  /** A container was created or renamed. */
  containerNamed(id: string, name: string, isNew: boolean): void;
  containerStarted(id: string): void;
  containerGone(id: string): void;
}

const answerMs = 5000;

/**
 * Reports container events until the signal is aborted. Uses an event stream of its own, on which nothing waits for
 * the datastore: Docker requests an address only milliseconds after an event.
 */
export async function followContainers(
  { docker, listener }: { readonly docker: DockerApi; readonly listener: ContainerListener },
  work: Work,
  signal: AbortSignal,
): Promise<void> {
  let delays = backoffMs(250, 5000);
  while (!signal.aborted) {
    try {
      const events = await docker.events(signal);
      const containers = await docker.containers(withDeadline(signal, answerMs));
      listener.containersAre(new Set(containers.map(({ Id }) => Id)));
      work.succeeded();
      delays = backoffMs(250, 5000);
      for await (const event of events) tell(listener, event);
    } catch (error) {
      if (!signal.aborted) work.failed(error);
    }
    await pause(delays.next().value, signal);
  }
}

function tell(listener: ContainerListener, { Type, Action, Actor }: DockerEvent): void {
  const { ID, Attributes } = Actor;
  if (Type !== 'container' || ID === undefined) return;
  const { name } = Attributes;
  const isNew = Action === 'create';
  if ((isNew || Action === 'rename') && name !== undefined) {
    listener.containerNamed(ID, name, isNew);
  }
  if (Action === 'start') listener.containerStarted(ID);
  if (Action === 'destroy') listener.containerGone(ID);
}
