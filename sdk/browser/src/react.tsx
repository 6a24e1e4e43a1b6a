/**
 * React hooks.
 *
 * @packageDocumentation
 */
import {
  createContext,
  useCallback,
  useContext,
  useEffect,
  useMemo,
  useRef,
  useState,
  useSyncExternalStore,
  type ReactNode,
} from 'react';

import { account, type AccountClient } from './account.js';
import type {
  Client,
  DataClient,
  GuestOptions,
  HandOffRequest,
  Json,
  Offer,
  PasserbyError,
  State,
  TakeOptions,
  Taking,
  User,
} from './index.js';

const Context = createContext<Client | null>(null);

/** Gives the client to the hooks below it. */
export function PasserbyProvider({ client, children }: { client: Client; children?: ReactNode }) {
  return <Context.Provider value={client}>{children}</Context.Provider>;
}

/** The client. Throws outside a provider. */
export function usePasserby(): Client {
  const client = useContext(Context);
  if (!client) throw Error('usePasserby: there is no <PasserbyProvider>');
  return client;
}

function useShown<T>(client: Client, look: () => T): T {
  return useSyncExternalStore(client.onChange, look, look);
}

/** What {@link useGuest} gives: the client's state, and what makes the guest. */
export interface UseGuest extends State {
  /** `client.guest()`. */
  start(options?: GuestOptions): Promise<User>;
}

/** Who is here. With `ensure`, the guest is made when the component appears; an ended one never is replaced so. */
export function useGuest({ ensure = false }: { ensure?: boolean } = {}): UseGuest {
  const client = usePasserby();
  const state = useShown(client, () => client.state);
  const wanted = ensure && state.status !== 'guest' && state.status !== 'ended';
  useEffect(() => {
    if (!wanted) return undefined;
    const stop = new AbortController();
    // What goes wrong for good shows in the console as a request that failed; whoever wants the error calls `start`.
    client.guest({ signal: stop.signal }).catch(() => {});
    return () => stop.abort();
  }, [client, wanted]);
  return useMemo(() => ({ ...state, start: client.guest }), [client, state]);
}

/** The value at `path` (all of it by default) with the changes that are on their way, and the means to change it. */
export function useData<T extends Json = Json>(path = ''): [value: T | undefined, data: DataClient] {
  const client = usePasserby();
  const value = useShown(client, () => client.data.peek(path)) as T | undefined;
  return [value, client.data];
}

/** What {@link useAccount} gives: what makes a guest somebody, and who is here. */
export interface UseAccount extends AccountClient {
  user: User | undefined;
  /** Whoever is here has an account. */
  signedIn: boolean;
}

/** Who is here, and the functions of `account(client)`. */
export function useAccount(): UseAccount {
  const client = usePasserby();
  const { user } = useShown(client, () => client.state);
  const me = useMemo(() => account(client), [client]);
  return useMemo(() => ({ ...me, user, signedIn: user?.kind === 'regular' }), [me, user]);
}

/** A hand-off to be shown. */
export interface UseHandOff {
  /**
   * `offered`: `offer` is shown and a device is waited for. `asked`: `request` is to be compared and confirmed.
   * `confirmed`: this device is done. `taking`: `taking.check` is shown until the other device confirms. `taken`: the
   * guest is here. `failed`: `error` says why.
   */
  status: 'idle' | 'offered' | 'asked' | 'confirmed' | 'taking' | 'taken' | 'failed';
  offer?: Offer;
  request?: HandOffRequest;
  taking?: Taking;
  error?: PasserbyError;
  create(options?: { mode?: 'share' | 'move' }): Promise<void>;
  confirm(): Promise<void>;
  /** Ends whichever side this is. */
  cancel(): Promise<void>;
  take(code: string, options?: TakeOptions): Promise<void>;
}

type Shown = Pick<UseHandOff, 'status' | 'offer' | 'request' | 'taking' | 'error'>;

/** Both sides of a hand-off. None of its functions rejects; `status` and `error` tell. */
export function useHandOff(): UseHandOff {
  const client = usePasserby();
  const [shown, show] = useState<Shown>({ status: 'idle' });
  const stop = useRef(new AbortController());
  useEffect(() => () => stop.current.abort(), []);

  /** Runs one side; what was going on before it is given up and says nothing any more. */
  const run = useCallback(async (side: (signal: AbortSignal, show: (next: Shown) => void) => Promise<void>) => {
    stop.current.abort();
    const { signal } = (stop.current = new AbortController());
    const tell = (next: Shown) => {
      if (!signal.aborted) show(next);
    };
    try {
      await side(signal, tell);
    } catch (error) {
      tell({ status: 'failed', error: error as PasserbyError });
    }
  }, []);

  const create = useCallback(
    (options?: { mode?: 'share' | 'move' }) =>
      run(async (signal, tell) => {
        const offer = await client.handOff.create(options);
        tell({ status: 'offered', offer });
        const request = await offer.asked({ signal });
        tell({ status: 'asked', offer, request });
      }),
    [client, run],
  );
  const take = useCallback(
    (code: string, options?: TakeOptions) =>
      run(async (signal, tell) => {
        const taking = await client.handOff.take(code, { ...options, signal });
        tell({ status: 'taking', taking });
        await taking.done;
        tell({ status: 'taken' });
      }),
    [client, run],
  );
  const { offer, request } = shown;
  const confirm = useCallback(async () => {
    if (!request) return;
    await run(async (_, tell) => {
      await client.handOff.confirm(request.id);
      tell({ status: 'confirmed' });
    });
  }, [client, run, request]);
  const cancel = useCallback(
    () =>
      run(async (_, tell) => {
        tell({ status: 'idle' });
        if (offer) await client.handOff.withdraw();
      }),
    [client, run, offer],
  );
  return { ...shown, create, confirm, cancel, take };
}
