defmodule Trunkline.JSONTest do
  use ExUnit.Case, async: true

  alias Trunkline.JSON

  defp there_and_back(value) do
    {:ok, read} = value |> JSON.encode!() |> IO.iodata_to_binary() |> JSON.decode()
    read
  end

  test "values come back as they were" do
    for value <- [nil, true, false, 0, -7, 9_007_199_254_740_991, 1.5, -2.5e-9, 1.0e22, "", "ü😀", [], %{}] do
      assert there_and_back(value) == value
    end

    value = %{"a" => [1, %{"b" => [nil, "x"]}], "" => "\"\\\n\r\t\u0001/"}
    assert there_and_back(value) == value
    assert there_and_back(%{atom: :value}) == %{"atom" => "value"}
  end

  test "what others write is read" do
    assert JSON.decode(~s( { "a" : [ 1 , 2e3, 0.5E-1, -0 ] , "b":"\\u00fc\\ud83d\\ude00\\/\\b\\f" } \n)) ==
             {:ok, %{"a" => [1, 2000.0, 0.05, 0], "b" => "ü😀/\b\f"}}
  end

  test "what is no JSON is an error" do
    for text <- [
          "",
          "{",
          "[1,",
          "[1 2]",
          "{\"a\"}",
          "{a:1}",
          "\"x",
          "01x",
          "nul",
          "\"\\ud800\"",
          "\"\\x\"",
          "1 2",
          "\"\n\""
        ] do
      assert {:error, _} = JSON.decode(text)
    end
  end

  test "what JSON has no form for is refused" do
    for value <- [self(), {1, 2}, <<255>>, %{1 => self()}] do
      assert_raise ArgumentError, fn -> value |> JSON.encode!() |> IO.iodata_to_binary() end
    end
  end

  test "a large string" do
    value = %{"text" => String.duplicate("ü\n", 200_000) <> String.duplicate("x", 5_000_000)}
    assert there_and_back(value) == value
  end
end
