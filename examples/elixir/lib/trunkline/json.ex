defmodule Trunkline.JSON do
  @moduledoc """
  JSON (RFC 8259), as much as the port needs: OTP has `:json` from 27 on, and this project has no dependencies.

  Objects become maps with string keys, `null` becomes `nil`. Atoms other than `true`, `false` and `nil` are written as
  strings, map keys may be atoms.
  """

  @doc "Encodes to iodata. Raises ArgumentError for what JSON has no form for."
  def encode!(nil), do: "null"
  def encode!(true), do: "true"
  def encode!(false), do: "false"
  def encode!(value) when is_atom(value), do: string(Atom.to_string(value))
  def encode!(value) when is_binary(value), do: string(value)
  def encode!(value) when is_integer(value), do: Integer.to_string(value)
  def encode!(value) when is_float(value), do: :io_lib_format.fwrite_g(value)
  def encode!(value) when is_list(value), do: [?[, join(value, &encode!/1), ?]]

  def encode!(value) when is_map(value) and not is_struct(value) do
    [?{, join(Map.to_list(value), fn {key, member} -> [string(to_string(key)), ?:, encode!(member)] end), ?}]
  end

  def encode!(value), do: raise(ArgumentError, "JSON has no form for #{inspect(value, limit: 5)}")

  defp join([], _encode), do: []
  defp join([first | rest], encode), do: [encode.(first) | Enum.map(rest, &[?,, encode.(&1)])]

  defp string(text) do
    if not String.valid?(text), do: raise(ArgumentError, "a string is no UTF-8")
    [?", escape(text, text, 0, 0), ?"]
  end

  # What needs no escape is not copied: `from` and `size` say which part of the whole it is.
  defp escape(<<byte, rest::binary>>, whole, from, size) when byte < 0x20 or byte in [?", ?\\] do
    [binary_part(whole, from, size), escaped(byte) | escape(rest, whole, from + size + 1, 0)]
  end

  defp escape(<<_byte, rest::binary>>, whole, from, size), do: escape(rest, whole, from, size + 1)
  defp escape(<<>>, whole, from, size), do: [binary_part(whole, from, size)]

  defp escaped(?"), do: "\\\""
  defp escaped(?\\), do: "\\\\"
  defp escaped(?\n), do: "\\n"
  defp escaped(?\r), do: "\\r"
  defp escaped(?\t), do: "\\t"
  defp escaped(byte), do: ["\\u", String.pad_leading(Integer.to_string(byte, 16), 4, "0")]

  @doc "Decodes one JSON text: `{:ok, value}` or `{:error, reason}`."
  def decode(text) when is_binary(text) do
    {value, rest} = value(blank(text))
    if blank(rest) == "", do: {:ok, value}, else: {:error, "more follows"}
  catch
    {:json, reason} -> {:error, reason}
  end

  defp blank(<<byte, rest::binary>>) when byte in ' \t\r\n', do: blank(rest)
  defp blank(rest), do: rest

  defp value(<<?", rest::binary>>), do: text(rest, rest, 0, [])
  defp value(<<?{, rest::binary>>), do: object(blank(rest))
  defp value(<<?[, rest::binary>>), do: array(blank(rest))
  defp value(<<"null", rest::binary>>), do: {nil, rest}
  defp value(<<"true", rest::binary>>), do: {true, rest}
  defp value(<<"false", rest::binary>>), do: {false, rest}
  defp value(<<byte, _::binary>> = rest) when byte == ?- or byte in ?0..?9, do: number(rest)
  defp value(rest), do: throw({:json, "no value at #{inspect(String.slice(rest, 0, 20))}"})

  defp array(<<?], rest::binary>>), do: {[], rest}
  defp array(rest), do: items(rest, [])

  defp items(rest, read) do
    {item, rest} = value(rest)

    case blank(rest) do
      <<?,, rest::binary>> -> items(blank(rest), [item | read])
      <<?], rest::binary>> -> {Enum.reverse([item | read]), rest}
      _ -> throw({:json, "an array is not closed"})
    end
  end

  defp object(<<?}, rest::binary>>), do: {%{}, rest}
  defp object(rest), do: members(rest, [])

  defp members(<<?", rest::binary>>, read) do
    {name, rest} = text(rest, rest, 0, [])

    with <<?:, rest::binary>> <- blank(rest),
         {member, rest} = value(blank(rest)) do
      case blank(rest) do
        <<?,, rest::binary>> -> members(blank(rest), [{name, member} | read])
        <<?}, rest::binary>> -> {Map.new(Enum.reverse([{name, member} | read])), rest}
        _ -> throw({:json, "an object is not closed"})
      end
    else
      _ -> throw({:json, "a name has no value"})
    end
  end

  defp members(_rest, _read), do: throw({:json, "an object has a name that is no string"})

  defp text(<<?", rest::binary>>, whole, size, read) do
    part = binary_part(whole, 0, size)
    {if(read == [], do: part, else: IO.iodata_to_binary([read, part])), rest}
  end

  defp text(<<?\\, rest::binary>>, whole, size, read) do
    {character, rest} = unescape(rest)
    text(rest, rest, 0, [read, binary_part(whole, 0, size), character])
  end

  defp text(<<byte, rest::binary>>, whole, size, read) when byte >= 0x20,
    do: text(rest, whole, size + 1, read)

  defp text(_rest, _whole, _size, _read), do: throw({:json, "a string is not closed"})

  defp unescape(<<?u, rest::binary>>) do
    case unit(rest) do
      {high, <<"\\u", rest::binary>>} when high in 0xD800..0xDBFF ->
        {low, rest} = unit(rest)
        if low not in 0xDC00..0xDFFF, do: throw({:json, "half a surrogate pair"})
        {<<0x10000 + (high - 0xD800) * 0x400 + low - 0xDC00::utf8>>, rest}

      {code, rest} when code not in 0xD800..0xDFFF ->
        {<<code::utf8>>, rest}

      _ ->
        throw({:json, "half a surrogate pair"})
    end
  end

  defp unescape(<<byte, rest::binary>>) when byte in '"\\/', do: {<<byte>>, rest}
  defp unescape(<<?n, rest::binary>>), do: {"\n", rest}
  defp unescape(<<?r, rest::binary>>), do: {"\r", rest}
  defp unescape(<<?t, rest::binary>>), do: {"\t", rest}
  defp unescape(<<?b, rest::binary>>), do: {"\b", rest}
  defp unescape(<<?f, rest::binary>>), do: {"\f", rest}
  defp unescape(_rest), do: throw({:json, "no such escape"})

  defp unit(<<digits::binary-size(4), rest::binary>>) do
    case Integer.parse(digits, 16) do
      {code, ""} -> {code, rest}
      _ -> throw({:json, "no such escape"})
    end
  end

  defp unit(_rest), do: throw({:json, "no such escape"})

  defp number(text) do
    case Regex.run(~r/\A(-?(?:0|[1-9]\d*))(\.\d+)?([eE][+-]?\d+)?/, text) do
      [all, _integer] -> {String.to_integer(all), drop(text, all)}
      [all, integer, fraction] -> {String.to_float(integer <> fraction), drop(text, all)}
      [all, integer, "", power] -> {String.to_float(integer <> ".0" <> power), drop(text, all)}
      [all, integer, fraction, power] -> {String.to_float(integer <> fraction <> power), drop(text, all)}
      nil -> throw({:json, "no number"})
    end
  end

  defp drop(text, read), do: binary_part(text, byte_size(read), byte_size(text) - byte_size(read))
end
