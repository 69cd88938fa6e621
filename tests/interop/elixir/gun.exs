# A WebSocket client of the BEAM that knows nothing of Trunkline: gun, as RabbitMQ ships it.
# Usage: elixir -pa <ebin of gun and cowlib> -pa <Trunkline.JSON> gun.exs PORT SILENT_MS
defmodule Gun do
  import ExUnit.Assertions
  alias Trunkline.JSON

  @patience 20_000

  def open(port, path, protocols \\ []) do
    {:ok, gun} = :gun.open('127.0.0.1', port, %{protocols: [:http]})
    {:ok, :http} = :gun.await_up(gun, @patience)
    options = if protocols == [], do: %{}, else: %{protocols: Enum.map(protocols, &{&1, :gun_ws_h})}
    ref = :gun.ws_upgrade(gun, path, [], options)
    assert_receive {:gun_upgrade, ^gun, ^ref, ["websocket"], _headers}, @patience
    gun
  end

  def say(gun, message), do: :gun.ws_send(gun, {:text, IO.iodata_to_binary(JSON.encode!(message))})

  def hear(gun) do
    assert_receive {:gun_ws, ^gun, _ref, {:text, text}}, @patience
    {:ok, message} = JSON.decode(text)
    message
  end

  def json_rpc(port, silent_ms) do
    gun = open(port, "/ws", ["trunkline.v1+json"])
    say(gun, %{jsonrpc: "2.0", id: 1, method: "debug.echo", params: %{value: %{"a" => "ü"}}})
    assert hear(gun) == %{"jsonrpc" => "2.0", "id" => 1, "result" => %{"a" => "ü"}}

    say(gun, %{jsonrpc: "2.0", id: "s", method: "debug.count", params: %{n: 50}})
    chunks = for _ <- 1..51, do: hear(gun)["params"]
    assert Enum.map(chunks, & &1["index"]) == Enum.to_list(0..50)
    assert List.last(chunks)["is_final"]
    assert hear(gun)["result"] == %{"chunks" => 50}

    big = String.duplicate("x", 1_000_000)
    say(gun, %{jsonrpc: "2.0", id: 2, method: "debug.echo", params: %{value: big}})
    assert hear(gun)["result"] == big

    # The hub pings every 0.2 s and cuts off who does not answer in less than this; gun answers by itself.
    :gun.ws_send(gun, {:ping, "still there?"})
    Process.sleep(silent_ms)
    say(gun, %{jsonrpc: "2.0", id: 3, method: "rpc.ping"})
    assert hear(gun)["result"]["pong"]

    :gun.ws_send(gun, {:close, 1000, ""})
    assert_receive {:gun_down, ^gun, :ws, :normal, _killed, _unprocessed}, @patience
    IO.puts("json-rpc: ok")
  end

  def phoenix(port) do
    gun = open(port, "/socket/websocket?vsn=2.0.0")
    say(gun, ["1", "1", "rpc:calls", "phx_join", %{}])
    assert hear(gun) == ["1", "1", "rpc:calls", "phx_reply", %{"status" => "ok", "response" => %{}}]
    say(gun, ["1", "2", "rpc:calls", "debug.echo", %{value: 7}])
    assert hear(gun) == ["1", "2", "rpc:calls", "phx_reply", %{"status" => "ok", "response" => 7}]
    say(gun, [nil, "3", "phoenix", "heartbeat", %{}])
    assert [nil, "3", "phoenix", "phx_reply", %{"status" => "ok"}] = hear(gun)
    IO.puts("phoenix: ok")
  end
end

{:ok, _} = Application.ensure_all_started(:gun)
[port, silent_ms] = Enum.map(System.argv(), &String.to_integer/1)
Gun.json_rpc(port, silent_ms)
Gun.phoenix(port)
