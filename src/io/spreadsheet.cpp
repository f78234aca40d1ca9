#include "vlmamba/io/spreadsheet.h"

#include <algorithm>
#include <cstdint>

namespace vlmamba::io {
namespace {

constexpr const char* kXml = "<?xml version=\"1.0\" encoding=\"UTF-8\" standalone=\"yes\"?>\n";
constexpr const char* kPackage = "http://schemas.openxmlformats.org/package/2006/";
constexpr const char* kOffice = "http://schemas.openxmlformats.org/officeDocument/2006/relationships";
constexpr const char* kSheet = "http://schemas.openxmlformats.org/spreadsheetml/2006/main";

uint32_t crc32(std::string_view bytes) {
  uint32_t crc = 0xFFFFFFFFu;
  for (const char c : bytes) {
    crc ^= static_cast<unsigned char>(c);
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (crc & 1 ? 0xEDB88320u : 0);
  }
  return ~crc;
}

// A zip archive of stored files, dated 1980-01-01.
class Zip {
 public:
  void add(std::string_view name, std::string_view bytes) {
    const std::string both = number(20, 2) + number(0, 2) + number(0, 2) + number(0, 2) + number(0x21, 2) +
                             number(crc32(bytes), 4) + number(bytes.size(), 4) + number(bytes.size(), 4) +
                             number(name.size(), 2) + number(0, 2);
    directory_ += "PK\1\2" + number(20, 2) + both + std::string(10, '\0') + number(files_.size(), 4);
    directory_ += name;
    files_ += "PK\3\4" + both;
    files_ += name;
    files_ += bytes;
    ++count_;
  }
  std::string archive() const {
    return files_ + directory_ + "PK\5\6" + std::string(4, '\0') + number(count_, 2) + number(count_, 2) +
           number(directory_.size(), 4) + number(files_.size(), 4) + number(0, 2);
  }

 private:
  static std::string number(uint64_t value, int bytes) {
    std::string text;
    for (int i = 0; i < bytes; ++i) text += static_cast<char>(value >> (8 * i) & 0xFF);
    return text;
  }
  std::string files_, directory_;
  uint64_t count_ = 0;
};

std::string escaped(std::string_view text) {
  std::string result;
  for (const char c : text) {
    if (c == '&')
      result += "&amp;";
    else if (c == '<')
      result += "&lt;";
    else if (c == '>')
      result += "&gt;";
    else if (c == '\r')
      result += "&#13;";
    else if (static_cast<unsigned char>(c) >= 0x20 || c == '\n' || c == '\t')
      result += c;  // XML has no other control characters
  }
  return result;
}

std::string column_name(size_t column) {
  std::string name;
  for (++column; column > 0; column = (column - 1) / 26) name.insert(0, 1, static_cast<char>('A' + (column - 1) % 26));
  return name;
}

std::string sheet_of(const std::vector<std::vector<std::string>>& rows, const std::vector<std::string>& numbers) {
  std::string xml = kXml + std::string("<worksheet xmlns=\"") + kSheet + "\"><sheetData>\n";
  for (size_t r = 0; r < rows.size(); ++r) {
    const std::string row = std::to_string(r + 1);
    xml += "<row r=\"" + row + "\">";
    for (size_t c = 0; c < rows[r].size(); ++c) {
      if (rows[r][c].empty()) continue;
      const std::string place = "<c r=\"" + column_name(c) + row + "\"";
      const bool number = r > 0 && std::find(numbers.begin(), numbers.end(), rows[0][c]) != numbers.end();
      xml += number ? place + "><v>" + escaped(rows[r][c]) + "</v></c>"
                    : place + " t=\"inlineStr\"><is><t xml:space=\"preserve\">" + escaped(rows[r][c]) + "</t></is></c>";
    }
    xml += "</row>\n";
  }
  return xml + "</sheetData></worksheet>";
}

}  // namespace

std::string to_xlsx(const std::vector<std::vector<std::string>>& rows, const std::vector<std::string>& numbers) {
  const std::string package = kPackage, office = kOffice;
  const std::string relations = kXml + std::string("<Relationships xmlns=\"") + package + "relationships\">";
  const std::string mime = "application/vnd.openxmlformats-officedocument.spreadsheetml.";
  Zip zip;
  zip.add("[Content_Types].xml",
          kXml + std::string("<Types xmlns=\"") + package +
              "content-types\"><Default Extension=\"rels\" ContentType=\"application/vnd.openxmlformats-package."
              "relationships+xml\"/><Default Extension=\"xml\" ContentType=\"application/xml\"/><Override "
              "PartName=\"/xl/workbook.xml\" ContentType=\"" +
              mime + "sheet.main+xml\"/><Override PartName=\"/xl/worksheets/sheet1.xml\" ContentType=\"" + mime +
              "worksheet+xml\"/></Types>");
  zip.add("_rels/.rels", relations + "<Relationship Id=\"rId1\" Type=\"" + office +
                             "/officeDocument\" Target=\"xl/workbook.xml\"/></Relationships>");
  zip.add("xl/workbook.xml", kXml + std::string("<workbook xmlns=\"") + kSheet + "\" xmlns:r=\"" + office +
                                 "\"><sheets><sheet name=\"Sheet1\" sheetId=\"1\" r:id=\"rId1\"/></sheets></workbook>");
  zip.add("xl/_rels/workbook.xml.rels", relations + "<Relationship Id=\"rId1\" Type=\"" + office +
                                            "/worksheet\" Target=\"worksheets/sheet1.xml\"/></Relationships>");
  zip.add("xl/worksheets/sheet1.xml", sheet_of(rows, numbers));
  return zip.archive();
}

}  // namespace vlmamba::io
